"""The synthetic worlds: invented people, what they do and why, the log of it, and text about it.

Nothing in here is evidence about real people, and nothing of it is the paper's: it lets the project run where nothing
can be downloaded, and claims be tested where the right answer is known.
"""

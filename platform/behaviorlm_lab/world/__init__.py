"""A small synthetic world: invented people, what they do and why, text about it, and a tiny language model.

Everything in here is synthetic. It lets the project run where nothing can be downloaded, and shows that the
pipeline works; it is no evidence about real people. All of it is our choice, nothing of it is the paper's.
"""

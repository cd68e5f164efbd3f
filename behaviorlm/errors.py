"""The errors a user can meet. A message says what is wrong, where, and what to do."""


class BehaviorLMError(Exception):
    """Anything this project refuses or could not do, with a message meant for the user."""


class ConfigError(BehaviorLMError):
    """A key of the configuration is missing, unknown or has a value that is not allowed."""


class DataError(BehaviorLMError):
    """The log, the conversations or what was made of them cannot be used."""


class ModelError(BehaviorLMError):
    """A model or tokenizer cannot be loaded, adapted or trusted."""


class StorageError(BehaviorLMError):
    """Something stored is missing, damaged or could not be written."""


class ClusterError(BehaviorLMError):
    """The cluster cannot run, or did not finish, what was asked of it."""

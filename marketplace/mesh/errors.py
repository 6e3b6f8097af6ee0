"""What can go wrong with a node."""


class NodeError(Exception):
    """A node did not do what it was asked; the text is for a person."""


class NodeUnreachable(NodeError):
    """Nothing answers at the node's address, or its connection broke: another node may serve."""


class NotConnected(NodeUnreachable):
    """No connection to the node came about: it was sent nothing."""


class ConnectionLost(NodeUnreachable):
    """The connection broke under the call; a fresh one to the same node may work."""


class NodeTimeout(NodeError):
    """The node took the call but did not answer in the time given."""


class NotLoaded(NodeError):
    """The node lives but does not hold the model (any more): another node may serve."""


class ModelFailed(NodeError):
    """The model itself gave an error; another node would give the same."""


class ModelCrashed(ModelFailed):
    """The model took its process with it; the node has to load it again."""


class LoadFailed(NodeError):
    """The node could not load the model."""

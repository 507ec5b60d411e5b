"""`InputSet`: what is mined and projected, whatever it is read from: image files, or a data set of tensors."""

from abc import ABC, abstractmethod


class InputSet(ABC):
    """Inputs in a fixed order, each with a label or none. An input's index is its number everywhere else (as in hits)."""

    noun: str = "input"
    """What one of them is called in figures."""
    paths: tuple[str, ...]
    """What each is called: a file relative to the root, or the index as text."""
    ignored: tuple[str, ...] = ()
    """Files that are there but are not read."""
    labels: tuple[str, ...]
    """The class of each; "" for none."""
    classes: tuple[str, ...]
    """All labels but "", in ascending order."""
    digest: str
    """SHA-256 that identifies the set without reading all of it."""

    what_changed: str
    """What is wrong with one that is another one than when it was mined, and what to do: a sentence without its subject."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What the set is called in tables and errors: a folder, or a name."""

    @abstractmethod
    def describe(self, index: int) -> str:
        """What an input is called in an error."""

    def caption(self, index: int) -> str:
        """What an input is called in figures: its path, or "input 12"."""
        return f"{self.noun} {index}"

    def __len__(self) -> int:
        return len(self.paths)

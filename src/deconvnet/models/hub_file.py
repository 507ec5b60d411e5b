"""Published weights in a repository of the Hugging Face Hub: downloaded when asked for, and only then."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvnet.errors import DeconvnetError


@dataclass(frozen=True)
class HubFile:
    """One file of weights. Its publisher states no digest of it, so a copy elsewhere is not recognised."""

    network: str
    keyword: str
    """Its name in NETWORK:KEYWORD."""
    repository: str
    """OWNER/NAME; empty if the publisher has no repository for it."""
    file: str
    describe: Callable[[], Mapping[str, Any]]
    """Makes `metadata`, which takes a moment."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Entries for `weights_metadata.parse_metadata`."""
        return self.describe()

    def cached(self) -> Path | None:
        """Where the file is in the Hub's cache on this machine, if it has been downloaded. The network is not used."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repository, self.file) if self.repository else None
        return Path(found) if isinstance(found, str) else None

    def download(self) -> Path:
        """The file in the cache, downloaded first if need be. Only a safetensors file, which cannot hold code, is.

        Raises `DeconvnetError` if there is none, or if it cannot be downloaded.
        """
        if cached := self.cached():
            return cached
        if not (self.repository and self.file.endswith(".safetensors")):
            raise DeconvnetError(
                f"The weights {self.keyword} of {self.network} are not published as a safetensors file, and nothing else is "
                f"downloaded from there: fetch them yourself and pass {self.network}:PATH."
            )
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

        try:
            return Path(hf_hub_download(self.repository, self.file))
        except LocalEntryNotFoundError as error:  # no connection
            reason = str(error.__cause__ or error).splitlines()[0]
        except EntryNotFoundError:
            reason = f"the repository has no {self.file}"
        except (HfHubHTTPError, OSError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DeconvnetError(
            f"{self.file} of {self.repository} could not be downloaded ({reason}): fetch it on a machine with a network "
            f"connection and pass {self.network}:PATH."
        )

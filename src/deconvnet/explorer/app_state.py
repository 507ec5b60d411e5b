"""The state of the live page: what is served, the images that were uploaded, and the threads that work on them."""

from collections.abc import Sequence

from deconvnet.explorer.responses import RequestError
from deconvnet.explorer.served_networks import LoadedNetwork, ServedModel
from deconvnet.explorer.uploads import UploadCache, UploadReader
from deconvnet.explorer.worker import Worker


class Explorer:
    """What the app serves and keeps: models, uploaded images and the thread in which networks run."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self.models = {model.key: model for model in models}
        networks = {id(model.loaded): model.loaded for model in models if model.loaded}  # two atlases may share one
        self.networks: list[LoadedNetwork] = list(networks.values())
        self.worker, self.upload_reader, self.upload_cache = Worker(), UploadReader(self.networks), UploadCache()
        self.stream_count = 0
        """Occlusion maps that are being streamed."""

    def model(self, key: str) -> ServedModel:
        """The model with this key. Raises `RequestError` (404) if there is none."""
        if key not in self.models:
            raise RequestError(404, f"No atlas and no network here is called {key[:80]!r}.")
        return self.models[key]

    def close(self) -> None:
        """Drop all waiting requests."""
        self.worker.close()
        self.upload_reader.decoder.close()

    def join(self, seconds: float) -> None:
        """Wait, after `close`, for what cannot be interrupted; at most `seconds` for each of the two threads."""
        self.worker.join(seconds)
        self.upload_reader.decoder.join(seconds)

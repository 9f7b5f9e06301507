"""The states of a model, loaded and made ready for threads that need different ones at a time."""

from __future__ import annotations

import copy
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path

from pipeline.models.classifier import Classifier
from pipeline.models.fusion import fold, foldable, lay_out
from pipeline.models.trained import load_state, state_file


class States:
    """The states of a model.

    A state is read from disk once, made ready for inference, and kept while a thread uses it. Every thread has a model
    of its own, whose hooks are its own, on weights that all threads share.
    """

    def __init__(
        self, model: Classifier, weights: Path, image_size: int, checksums: Mapping[str, str] | None = None
    ) -> None:
        """Prepare a model.

        Args:
            model: on its device, in evaluation mode; its own weights do not matter.
            weights: folder with one safetensors file per state.
            image_size: side of its input in pixels.
            checksums: of the files, see `pipeline.models.trained.load_state`.
        """
        self._model, self._weights, self._checksums = model, weights, checksums
        self._pairs = foldable(model, image_size)
        self._lock = threading.Lock()
        self._loaded: weakref.WeakValueDictionary[str, Classifier] = weakref.WeakValueDictionary()
        self._own = threading.local()
        self.device = model.mean.device

    def model(self, state: str) -> Classifier:
        """Return this thread's model in a state; it is good until the thread asks for the next one."""
        if getattr(self._own, "state", None) != state:
            with self._lock:
                shared = self._loaded.get(state)
                if shared is None:
                    shared = self._loaded[state] = self._load(state)
            # Holding the shared one keeps it loaded for the other threads.
            self._own.state, self._own.shared, self._own.model = state, shared, _on_same_weights(shared)
        model: Classifier = self._own.model
        return model

    def _load(self, state: str) -> Classifier:
        model = copy.deepcopy(self._model)
        load_state(model, state_file(self._weights, state), self._checksums)
        model.requires_grad_(False)
        fold(model, self._pairs)
        lay_out(model)
        return model


def _on_same_weights(model: Classifier) -> Classifier:
    """Return a copy of a model's modules around its own tensors."""
    shared = [*model.parameters(), *model.buffers(), model.cache]
    return copy.deepcopy(model, {id(one): one for one in shared})

"""Arrays of NumPy or of torch, for a decoder that is written once.

    xp = arrays_of(scores)
    best, token = xp.top(scores, 5)

A namespace is NumPy or torch itself (`xp.where`, `xp.concat`, `xp.amax` …; torch knows `axis` and `keepdims`, too), and
here is the little that the two call otherwise, by NumPy's name where there is one. What it makes is on its device. A
Python number takes the type of the array that it meets; arrays of whole numbers and of floats are not mixed, for NumPy
would go on in float64.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from neuroprompt.models import float64_device

if TYPE_CHECKING:
    import torch

Array: TypeAlias = "np.ndarray | torch.Tensor"


def arrays_of(array: Array) -> Arrays:
    """The namespace of an array, and of those beside it."""
    return NUMPY if isinstance(array, np.ndarray) else on_torch(array.device)


@cache
def on_torch(device: torch.device | str = "cpu") -> Arrays:
    """The namespace of torch's tensors on a device."""
    return _Torch(device)


class Arrays:
    """NumPy, or torch on one device."""

    def __getattr__(self, name: str) -> Any:
        """What both call alike."""
        found = getattr(self._library, name)
        setattr(self, name, found)
        return found

    _library: Any

    @property
    def wide(self) -> Arrays:
        """The namespace where float64 is: of a device that has none, the CPU's."""
        return self

    def asarray(self, values: Any, dtype: Any = None) -> Array:
        """An array of numbers, or of the other library's array."""
        raise NotImplementedError

    def arange(self, count: int) -> Array:
        """0 to `count` - 1, in int64."""
        raise NotImplementedError

    def full(self, shape: tuple[int, ...], value: float, dtype: Any = None) -> Array:
        """By default of the value's type: int64, bool, or float32."""
        raise NotImplementedError

    def astype(self, array: Array, dtype: Any) -> Array:
        raise NotImplementedError

    def repeat(self, array: Array, count: int) -> Array:
        """Each row `count` times, one after the other."""
        raise NotImplementedError

    def take_along_axis(self, array: Array, index: Array, axis: int) -> Array:
        raise NotImplementedError

    def argsort(self, array: Array, descending: bool = False) -> Array:
        """Along the last axis; equals stay in their order."""
        raise NotImplementedError

    def top(self, array: Array, count: int) -> tuple[Array, Array]:
        """The largest values of the last axis, the largest first, and where they are."""
        raise NotImplementedError

    def least_of_top(self, array: Array, count: int) -> Array:
        """The last of the values that `top` gives, (…, 1)."""
        raise NotImplementedError

    def close(self, scores: Array, index: Array, which: Array) -> Array:
        """`scores`, -inf at those places `index` of the last axis of which `which` is true; a place may come twice."""
        raise NotImplementedError

    def log_softmax(self, array: Array) -> Array:
        """Over the last axis, in float32."""
        raise NotImplementedError

    def logsumexp(self, array: Array) -> Array:
        """Over the last axis."""
        raise NotImplementedError


class _NumPy(Arrays):
    _library = np

    def asarray(self, values, dtype=None):
        return np.asarray(values, dtype)

    def arange(self, count):
        return np.arange(count)

    def full(self, shape, value, dtype=None):
        return np.full(shape, value, dtype or (np.float32 if isinstance(value, float) else None))

    def astype(self, array, dtype):
        return array.astype(dtype, copy=False)

    def repeat(self, array, count):
        return array.repeat(count, axis=0)

    def take_along_axis(self, array, index, axis):
        if array.shape[:-1] == index.shape[:-1] and array.ndim == 2 and axis == 1:
            return array[np.arange(len(array))[:, None], index]  # at a third of the cost
        return np.take_along_axis(array, index, axis)

    def argsort(self, array, descending=False):
        return np.argsort(-array if descending else array, axis=-1, kind="stable")

    def top(self, array, count):
        if count < array.shape[-1]:
            index = np.argpartition(array, array.shape[-1] - count, axis=-1)[..., -count:]
            index.sort(axis=-1)  # so that equals come in their order
        else:
            index = np.broadcast_to(np.arange(array.shape[-1]), array.shape)
        values = np.take_along_axis(array, index, -1)
        order = self.argsort(values, descending=True)
        return np.take_along_axis(values, order, -1), np.take_along_axis(index, order, -1)

    def least_of_top(self, array, count):
        place = array.shape[-1] - count
        return np.partition(array, place, axis=-1)[..., place : place + 1]

    def close(self, scores, index, which):
        rows = np.nonzero(which)
        scores = scores.copy()
        scores[(*rows[:-1], index[rows])] = -np.inf
        return scores

    def log_softmax(self, array):
        shifted = array - array.max(-1, keepdims=True)
        shifted -= np.log(np.exp(shifted).sum(-1, keepdims=True))
        return shifted

    def logsumexp(self, array):
        most = array.max(-1, keepdims=True)
        return np.log(np.exp(array - most).sum(-1)) + most[..., 0]


NUMPY: Arrays = _NumPy()


class _Torch(Arrays):
    def __init__(self, device: torch.device | str):
        import torch

        self._library, self.device = torch, torch.device(device)

    @property
    def wide(self):
        return on_torch(float64_device(self.device))

    def asarray(self, values, dtype=None):
        return self._library.as_tensor(values, dtype=dtype, device=self.device)

    def arange(self, count):
        return self._library.arange(count, device=self.device)

    def full(self, shape, value, dtype=None):
        return self._library.full(shape, value, dtype=dtype, device=self.device)

    def astype(self, array, dtype):
        return array.to(dtype)

    def repeat(self, array, count):
        return array.repeat_interleave(count, dim=0)

    def take_along_axis(self, array, index, axis):
        return self._library.take_along_dim(array, index, axis)

    def argsort(self, array, descending=False):
        return self._library.sort(array, dim=-1, descending=descending, stable=True).indices

    def top(self, array, count):
        return self._library.topk(array, count, dim=-1)

    def least_of_top(self, array, count):
        return self.top(array, count)[0][..., -1:]

    def close(self, scores, index, which):
        closed = self._library.where(which, -self._library.inf, 0.0).to(scores.dtype)
        return scores.scatter_add(-1, index, closed)

    def log_softmax(self, array):
        return self._library.log_softmax(array.float(), -1)

    def logsumexp(self, array):
        return self._library.logsumexp(array, -1)

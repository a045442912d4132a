"""Receptive fields: which input pixels a unit sees, followed through every operation of a model.

Araujo, Norris and Sim 2019 ("Computing receptive fields of convolutional neural networks"): a
kernel of k units that lie j pixels apart widens the field by (k - 1)·j, a stride of s multiplies j
by s. Where branches join, the field is what any of them sees. We keep both ends of it, relative to
the unit's place, so that padding and branches that are not centred come out right.

A mode of torch's dispatcher sees the few dozen operations that all layers and functions come down
to, so that functional additions, concatenations, views and transpositions are followed too. Global
pooling, flattening before a linear layer, and attention see the whole image. Two things are left
out: the statistics of normalisation, and what is computed from the whole image and then spread over
a map without a place of its own, such as the gates of squeeze-and-excitation.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

Span = tuple[float, float] | None  # the first and the last pixel seen, from place 0; None: all


@dataclass(frozen=True)
class Factor:
    """A part of a tensor's dimension. A step along it is `step` pixels along one axis of the image.

    With no axis it is channels or the batch; with both it runs over pixels in no simple order.
    """

    size: int
    axes: frozenset[int] = frozenset()  # 0 down, 1 across
    step: float = 0.0


Dims = tuple[tuple[Factor, ...], ...]  # the factors of each dimension, outermost first


@dataclass(frozen=True)
class Reach:
    """What a tensor's units see of the image, and where along its dimensions they lie."""

    dims: Dims
    spans: tuple[Span, Span] = ((0.0, 0.0), (0.0, 0.0))

    @property
    def field(self) -> int | None:
        """Side in pixels, the longer one; None: the whole image."""
        widths = [None if span is None else span[1] - span[0] + 1 for span in self.spans]
        return None if None in widths else math.ceil(max(w for w in widths if w is not None))

    @property
    def jump(self) -> int | None:
        """Pixels between neighbours; None where units have no place in the image."""
        steps = [f.step for dim in self.dims for f in dim if len(f.axes) == 1]
        return math.ceil(min(steps)) if steps else None

    def placed(self) -> bool:
        return any(f.axes for dim in self.dims for f in dim)

    def whole(self, axes: Iterable[int]) -> "Reach":
        """Sees all of the image along these axes."""
        return replace(self, spans=_each(lambda axis, span: None if axis in axes else span, self))

    def over(self, factors: Iterable[Factor]) -> "Reach":
        """Sees all units along these factors: a sum, a mean or a product over them."""
        out = self
        for f in factors:
            if len(f.axes) == 1:
                (axis,) = f.axes
                out = out.widened(axis, 0.0, (f.size - 1) * f.step)
            else:
                out = out.whole(f.axes)
        return out

    def widened(self, axis: int, low: float, high: float) -> "Reach":
        """Sees so many pixels more at both ends along an axis."""

        def wider(of: int, span: Span) -> Span:
            return (span[0] + low, span[1] + high) if span and of == axis else span

        return replace(self, spans=_each(wider, self))

    def on(self, dims: Dims) -> "Reach":
        """The same units on other dimensions; an axis that none of them has is seen as a whole."""
        left = frozenset().union(*(f.axes for dim in dims for f in dim))
        return replace(self, dims=dims).whole({0, 1} - left)


def of_image(x: Tensor) -> Reach:
    """The reach of the input itself, [B, C, H, W]."""
    sizes = list(x.shape)
    down, across = Factor(sizes[2], frozenset({0}), 1.0), Factor(sizes[3], frozenset({1}), 1.0)
    return Reach(((Factor(sizes[0]),), (Factor(sizes[1]),), (down,), (across,)))


class Follow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, `reach(tensor)` tells what the tensor's units see of `image`."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: Any = WeakTensorKeyDictionary()
        self._known[image] = of_image(image)

    def reach(self, tensor: Tensor) -> Reach | None:
        found: Reach | None = self._known.get(tensor)
        return found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # read before the call: an operation may write its result over its input
        first = args[0] if args and isinstance(args[0], list | tuple) else args
        reaches = [self._known.get(a) if isinstance(a, Tensor) else None for a in first]
        inputs = [
            (self._known[t], t.shape)
            for t in tree_leaves((args, kwargs))
            if isinstance(t, Tensor) and t in self._known
        ]
        out = func(*args, **(kwargs or {}))
        if inputs:
            rule = RULES.get(func._schema.name.removeprefix("aten::").rstrip("_"))
            for result in tree_leaves(out):
                if isinstance(result, Tensor):
                    reach = rule(reaches, args, result) if rule else None
                    self._known[result] = reach or _joined(inputs, result)
        return out


def _each(change: Callable[[int, Span], Span], reach: Reach) -> tuple[Span, Span]:
    down, across = reach.spans
    return change(0, down), change(1, across)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _window(
    reach: Reach,
    out: Tensor,
    kernel: Sequence[int],
    stride: Sequence[float],
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
) -> Reach:
    """A window slides over the last two dimensions."""
    dims = list(reach.dims[:-2])
    for i, dim in enumerate(reach.dims[-2:]):
        axes = frozenset().union(*(f.axes for f in dim))
        size = out.shape[i - 2]
        if len(dim) == 1 and len(axes) == 1:
            step, (axis,) = dim[0].step, axes
            before = padding[i] * step
            reach = reach.widened(axis, -before, (kernel[i] - 1) * dilation[i] * step - before)
            dims.append((Factor(size, axes, step * stride[i]),))
        else:
            if kernel[i] > 1:
                reach = reach.whole(axes)
            dims.append((Factor(size, axes),))
    return reach.on(tuple(dims))


def _joined(inputs: list[tuple[Reach, torch.Size]], out: Tensor) -> Reach:
    """The union, of an operation unit by unit; of any other one, the whole image."""
    placed = [pair for pair in inputs if pair[0].placed()]
    if placed:  # what is only spread over a map, a gate, is left out
        inputs = [p for p in inputs if p[0].placed() or p[1].numel() >= placed[0][1].numel()]
    if not all(_spreads(shape, out.shape) for _, shape in inputs):
        return _anywhere(inputs[0][0], (), out)
    found: list[tuple[Factor, ...]] = []
    for i, size in enumerate(out.shape):
        at = i - out.dim()
        same = [r.dims[at] for r, shape in inputs if -at <= len(shape) and shape[at] == size]
        found.append(next((dim for dim in same if any(f.axes for f in dim)), (Factor(size),)))
    return Reach(tuple(found), _union(reach for reach, _ in inputs)).on(tuple(found))


def _spreads(shape: torch.Size, over: torch.Size) -> bool:
    """Whether a tensor of this shape can be broadcast to the other."""
    pairs = zip(reversed(shape), reversed(over), strict=False)
    return len(shape) <= len(over) and all(one in (1, other) for one, other in pairs)


def _union(reaches: Iterable[Reach]) -> tuple[Span, Span]:
    def union(spans: list[Span]) -> Span:
        known = [span for span in spans if span is not None]
        if len(known) < len(spans):
            return None
        return min(low for low, _ in known), max(high for _, high in known)

    down, across = zip(*(reach.spans for reach in reaches), strict=True)
    return union(list(down)), union(list(across))


# One rule an operation: the reach of its arguments (or of those in its list), the arguments, the
# result -> the result's reach. None where the rule has nothing to say: then _joined has.

Rule = Callable[[list[Reach | None], Any, Tensor], Reach | None]


def _of(change: Callable[[Reach, Any, Tensor], Reach]) -> Rule:
    """A rule that looks at the first argument only."""

    def rule(reaches: list[Reach | None], args: Any, out: Tensor) -> Reach | None:
        return None if reaches[0] is None else change(reaches[0], args, out)

    return rule


def _convolution(reach: Reach, args: Any, out: Tensor) -> Reach:
    weight, (stride, padding, dilation, transposed) = args[1], args[3:7]
    if weight.dim() != 4:  # along channels, or through time
        return reach.on(tuple((Factor(size),) for size in out.shape))
    if weight.shape[1] > 1:
        reach = reach.over(reach.dims[1])
    plain = replace(reach, dims=(reach.dims[0], (Factor(out.shape[1]),), *reach.dims[2:]))
    kernel = list(weight.shape[2:])
    if transposed:  # an upper bound: a unit sees so many inputs
        kernel = [math.ceil(k / s) for k, s in zip(kernel, stride, strict=True)]
        return _window(plain, out, kernel, [1 / s for s in stride])
    return _window(plain, out, kernel, stride, padding, dilation)


def _pool(reach: Reach, args: Any, out: Tensor) -> Reach:
    kernel = _pair(args[1])
    stride = _pair(args[2]) if len(args) > 2 and args[2] else kernel
    padding = _pair(args[3]) if len(args) > 3 else (0, 0)
    # max pooling has its dilation where mean pooling has a flag
    dilation = _pair(args[4]) if len(args) > 4 and not isinstance(args[4], bool) else (1, 1)
    return _window(reach, out, kernel, stride, padding, dilation)


def _adaptive_pool(reach: Reach, args: Any, out: Tensor) -> Reach:
    sizes = list(zip(args[0].shape[-2:], out.shape[-2:], strict=True))
    if all(after == 1 for _, after in sizes):
        return _reduction(reach, (args[0], [-2, -1]), out)
    kernel = [
        max(-((i + 1) * before // -after) - i * before // after for i in range(after))
        for before, after in sizes
    ]
    return _window(reach, out, kernel, [before / after for before, after in sizes])


def _unshuffle(reach: Reach, args: Any, out: Tensor) -> Reach:
    """A square of pixels becomes channels."""
    found = _window(reach, out, _pair(args[1]), _pair(args[1]))
    return replace(found, dims=(*found.dims[:-3], (Factor(out.shape[-3]),), *found.dims[-2:]))


def _upsample(reach: Reach, args: Any, out: Tensor) -> Reach:
    """An upper bound: two neighbours, whether it blends them or takes the nearer one."""
    shrink = [b / a for b, a in zip(args[0].shape[-2:], out.shape[-2:], strict=True)]
    return _window(reach, out, [1 if ratio == 1 else 2 for ratio in shrink], shrink)


def _pad(reach: Reach, args: Any, out: Tensor) -> Reach:
    for i in range(len(args[1]) // 2):  # the last dimension comes first
        reach = _cut(reach, out.dim() - 1 - i, -args[1][2 * i], 1, out)
    return reach


def _slice(reach: Reach, args: Any, out: Tensor) -> Reach:
    at = args[1] if len(args) > 1 else 0
    start = args[2] if len(args) > 2 and args[2] is not None else 0
    stride = args[4] if len(args) > 4 else 1
    if args[0].shape == out.shape:
        return reach
    size = args[0].shape[at]
    start = min(start + size if start < 0 else start, size)
    return _cut(reach, at, start, stride, out)


def _cut(reach: Reach, at: int, start: int, stride: int, out: Tensor) -> Reach:
    """A dimension that now begins elsewhere, perhaps in longer steps."""
    at %= len(reach.dims)
    dim = reach.dims[at]
    new = _mixed(dim, out.shape[at])
    if len(dim) == 1 and len(dim[0].axes) == 1:
        (axis,) = dim[0].axes
        reach = reach.widened(axis, start * dim[0].step, start * dim[0].step)
        new = (replace(dim[0], size=out.shape[at], step=dim[0].step * stride),)
    return reach.on((*reach.dims[:at], new, *reach.dims[at + 1 :]))


def _split(reach: Reach, args: Any, out: Tensor) -> Reach:
    at = (args[2] if len(args) > 2 else 0) % len(reach.dims)
    new = _mixed(reach.dims[at], out.shape[at])
    return reach.on((*reach.dims[:at], new, *reach.dims[at + 1 :]))


def _mixed(dim: tuple[Factor, ...], size: int) -> tuple[Factor, ...]:
    """A dimension whose units no longer lie in simple order."""
    return (Factor(size, frozenset({0, 1}) if any(f.axes for f in dim) else frozenset()),)


def _view(reach: Reach, args: Any, out: Tensor) -> Reach:
    """Splits and merges dimensions: the same factors in the same order."""
    if args[0].shape == out.shape:
        return reach
    left = [f for dim in reach.dims for f in dim if f.size > 1]
    dims: list[tuple[Factor, ...]] = []
    for size in out.shape:
        taken: list[Factor] = []
        rest = int(size)
        while rest > 1:
            f = left.pop(0)
            if rest % f.size == 0:
                taken.append(f)
                rest //= f.size
            elif f.size % rest == 0:  # the outer part goes in longer steps, the inner one is left
                inner = f.size // rest
                taken.append(Factor(rest, f.axes, f.step * inner))
                left.insert(0, replace(f, size=inner))
                rest = 1
            else:
                return _anywhere(reach, args, out)
        dims.append(tuple(taken) or (Factor(int(size)),))
    return reach.on(tuple(dims))


def _permute(reach: Reach, args: Any, out: Tensor) -> Reach:
    return replace(reach, dims=tuple(reach.dims[i] for i in args[1]))


def _transpose(reach: Reach, args: Any, out: Tensor) -> Reach:
    dims = list(reach.dims)
    one, two = args[1:] if len(args) > 1 else (0, -1)
    dims[one], dims[two] = dims[two], dims[one]
    return replace(reach, dims=tuple(dims))


def _select(reach: Reach, args: Any, out: Tensor) -> Reach:
    dims = list(reach.dims)
    del dims[args[1] if len(args) > 1 else 0]
    return reach.on(tuple(dims))


def _unsqueeze(reach: Reach, args: Any, out: Tensor) -> Reach:
    dims = list(reach.dims)
    dims.insert(args[1] % out.dim(), (Factor(1),))
    return replace(reach, dims=tuple(dims))


def _reduction(reach: Reach, args: Any, out: Tensor) -> Reach:
    """Over the dimensions that the second argument names; over all without it."""
    n, named = len(reach.dims), args[1] if len(args) > 1 else None
    if isinstance(named, Tensor):  # the larger of two tensors
        return _joined([(reach, args[0].shape)], out)
    over = {d % n for d in ([named] if isinstance(named, int) else named or range(n))}
    seen = reach.over(f for i in over for f in reach.dims[i])
    if out.dim() == n:
        return seen.on(tuple((Factor(1),) if i in over else d for i, d in enumerate(reach.dims)))
    return seen.on(tuple(d for i, d in enumerate(reach.dims) if i not in over))


def _norm(reach: Reach, args: Any, out: Tensor) -> Reach:
    return _reduction(reach, (args[0], *args[2:]), out)


def _softmax(reach: Reach, args: Any, out: Tensor) -> Reach:
    return reach.whole({axis for f in reach.dims[args[1]] for axis in f.axes})


def _anywhere(reach: Reach, args: Any, out: Tensor) -> Reach:
    """What reads from places that only the image tells, or in no order we know."""
    both = frozenset({0, 1})
    dims = tuple((Factor(size, both if size > 1 else frozenset()),) for size in out.shape)
    return Reach(dims if reach.placed() else _nowhere(out)).whole(both)


def _nowhere(out: Tensor) -> Dims:
    return tuple((Factor(size),) for size in out.shape)


def _product(reaches: list[Reach | None], args: Any, out: Tensor) -> Reach | None:
    """x @ weight sums over x's last dimension; where both sides see the image, it is attention."""
    a, b = reaches[-2:]
    if a is not None and b is None:
        return a.over(a.dims[-1]).on((*a.dims[:-1], (Factor(out.shape[-1]),)))
    if a is None and b is not None:
        return b.over(b.dims[-2]).on((*b.dims[:-2], (Factor(out.shape[-2]),), b.dims[-1]))
    if a is None or b is None:
        return None
    return a.whole({0, 1}).on((*a.dims[:-1], b.dims[-1]))


def _together(reaches: list[Reach | None], args: Any, out: Tensor) -> Reach | None:
    """A concatenation."""
    known = [reach for reach in reaches if reach is not None]
    placed = [reach for reach in known if reach.placed()] or known
    at = (args[1] if len(args) > 1 else 0) % out.dim()
    dims = list(placed[0].dims)
    dims[at] = _mixed(tuple(f for reach in placed for f in reach.dims[at]), out.shape[at])
    return Reach(tuple(dims), _union(placed)).on(tuple(dims))


RULES: dict[str, Rule] = {
    "convolution": _of(_convolution),
    **dict.fromkeys(("max_pool2d_with_indices", "avg_pool2d"), _of(_pool)),
    **dict.fromkeys(("_adaptive_avg_pool2d", "adaptive_max_pool2d"), _of(_adaptive_pool)),
    "pixel_unshuffle": _of(_unshuffle),
    **dict.fromkeys(
        ("upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d"), _of(_upsample)
    ),
    **dict.fromkeys(("constant_pad_nd", "reflection_pad2d", "replication_pad2d"), _of(_pad)),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "squeeze"), _of(_view)),
    "permute": _of(_permute),
    **dict.fromkeys(("transpose", "t"), _of(_transpose)),
    "slice": _of(_slice),
    **dict.fromkeys(("split", "split_with_sizes"), _of(_split)),
    **dict.fromkeys(("select", "unbind"), _of(_select)),
    "unsqueeze": _of(_unsqueeze),
    **dict.fromkeys(
        ("mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean", "logsumexp"),
        _of(_reduction),
    ),
    "linalg_vector_norm": _of(_norm),
    **dict.fromkeys(("_softmax", "_safe_softmax", "_log_softmax", "cumsum"), _of(_softmax)),
    **dict.fromkeys(
        (
            "index",
            "gather",
            "index_select",
            "grid_sampler_2d",
            "_scaled_dot_product_flash_attention_for_cpu",
        ),
        _of(_anywhere),
    ),
    **dict.fromkeys(("mm", "addmm", "bmm", "baddbmm"), _product),
    "cat": _together,
}

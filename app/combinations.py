"""A combination ready to use: each network runs once, and each member reads of it what it was trained on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from app.models import NEXT, Model, networks_of, trained_on_images
from app.parts import Part
from stages.library.combination import combined
from stages.library.combination.combined import Combined
from stages.library.common.console import UserError
from stages.library.features.source import Source
from stages.library.features.unlike import Reference
from stages.library.heads import trained_head
from stages.library.scoring.probabilities import softmax

if TYPE_CHECKING:
    from app.parts import Outputs


@dataclass(frozen=True, kw_only=True)
class CombinedModel(Model):
    """Heads on networks that they may share, fine-tuned networks, and what makes one answer of theirs."""

    combined: Combined
    members: tuple[Model, ...]  # in its order; their own networks are not used, for `compiled` makes others of `parts`
    places: tuple[tuple[int, ...], ...]  # which of `parts` each member reads

    @property
    def heads(self) -> tuple[Model, ...]:
        return self.members

    def of_members(self, outputs: "Sequence[Outputs]") -> "list[list[Outputs]]":
        """Returns for each member what its networks give, of what all give."""
        return [[outputs[place] for place in own] for own in self.places]

    @property
    def threshold(self) -> float:
        return self.members[0].threshold

    def farther_out(self, outputs: "Sequence[Outputs]") -> np.ndarray | None:
        """Returns the least share by any of its networks, times their number (Bonferroni), at most 1.

        So an image that is unlike the training images for one network is so for the combination, and no more images
        like these are called so than by one network. Heads on the same features give the same answer.
        """
        ways = dict(zip(self.places, zip(self.members, self.of_members(outputs), strict=True), strict=True))
        found = [member.farther_out(own) for member, own in ways.values()]
        shares = [each for each in found if each is not None]
        return np.minimum(np.min(shares, axis=0) * len(shares), 1).astype(np.float32) if shares else None

    def compared(self, load: Callable[[str], Reference | None]) -> Self:
        return replace(self, members=tuple(member.compared(load) for member in self.members))

    def read(self, outputs: "Sequence[Outputs]") -> np.ndarray:
        found = [member.read(own) for member, own in zip(self.members, self.of_members(outputs), strict=True)]
        return softmax(self.combined.logits(np.stack(found)))


def load(name: str, folder_of: Callable[[str], Path], weight_files: Mapping[str, str]) -> CombinedModel:
    """Loads a combination and its members, given where models lie and `extract.weights`.

    UserError where one is missing, damaged, or another one.
    """
    found = combined.load(folder_of(name))
    if stale := found.stale(folder_of):
        raise UserError(f"{stale} is another model than was combined, or none. {NEXT}")
    names = [member["name"] for member in found.members]
    trained = {each: trained_head.load(folder_of(each)) for each in names if not combined.is_network(each)}
    parts: dict[Source | str, Part] = {}  # by what made the features, or by the name of a network
    reads: list[tuple[Source | str, ...]] = []  # which of them each member does
    for each in names:
        if each not in trained:
            (parts[each],) = trained_on_images(each, folder_of(each)).parts
            reads.append((each,))
            continue
        sources = trained[each].source.members
        for source in sources:
            if source not in parts:
                built = networks_of(source, weight_files)
                if built is None:
                    raise UserError(f"{folder_of(name)} was trained on features of other weights. {NEXT}")
                (parts[source],) = built
        reads.append(sources)
    order = list(parts)
    members = tuple(
        Model(each, found.classes, tuple(parts[key] for key in own), trained.get(each))
        for each, own in zip(names, reads, strict=True)
    )
    places = tuple(tuple(map(order.index, own)) for own in reads)
    return CombinedModel(name, found.classes, tuple(parts.values()), combined=found, members=members, places=places)

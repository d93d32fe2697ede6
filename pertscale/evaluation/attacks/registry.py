"""The attacks by name, each with what it is in words (method R2).

A new attack is a function in the module of its kind, and an entry here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from pertscale.evaluation.attacks import cells, classes, profiles

#: What an attack returns: profiles of expression, which become classes by the package's own rule;
#: classes; or single cells, which are tested as observed ones are.
Kind = Literal["profiles", "classes", "cells"]


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A prediction that knows nothing of what is held out but names.

    Attributes
    ----------
    make
        The function; what it takes and returns depends on `kind`, see the modules beside this one.
    doc
        What it is, in one line.
    kind
        'profiles', 'classes' or 'cells'.
    is_floor
        Whether it is an honest guess, which the others are compared with.
    is_label_only
        Whether it says what the label says: that the target is down or up. It has to score like the
        floors that do not even say that.
    is_random
        Whether it is drawn at random: its scores are means over what perturbation gets which row.
    knows
        Why a gain is knowledge and no flaw of the metric; empty where it is none.
    own_controls
        Of cells: makes the controls that the file brings, from those of the screen.
    """

    make: Callable[..., Any]
    doc: str
    kind: Kind = "profiles"
    is_floor: bool = False
    is_label_only: bool = False
    is_random: bool = False
    knows: str = ""
    own_controls: Callable[..., Any] | None = None


def _scaled(factor: float) -> Attack:
    return Attack(
        make=lambda known, random: profiles.scaled(known, factor),
        doc=f"the mean change, times {factor:g}",
    )


_cells = partial(Attack, kind="cells", is_random=True)
_classes = partial(Attack, kind="classes")

#: Metrics that attacks are known to gain in, by operating point, and why they are kept.
GAMED: Final[dict[tuple[str, str], str]] = {
    ("spread_ratio", ""): "any noise has spread: says that predictions differ, not that they are "
    "right",
    ("effective_rank", ""): "any noise has directions: read it beside the ranks among truths",
    (
        "direction",
        "",
    ): "genes that few cells express fall in most samples, and noise of the controls "
    "moves all genes: a guess of the side is right more often than not",
    ("l2_changed", ""): "its genes are chosen by the size of the true change: to exaggerate pays",
    ("balanced_accuracy", "as_called"): "grows with the number of calls: compare methods at the "
    "training rate",
    ("macro_f1", "as_called"): "depends on the number of calls: compare methods at the training "
    "rate",
    ("mcc", "as_called"): "depends on the number of calls: compare methods at the training rate",
}

#: Every attack by the name it has in tables, the honest floors first.
ATTACKS: Final[dict[str, Attack]] = {
    "no_change": Attack(make=profiles.no_change, doc="the control: nothing changes", is_floor=True),
    "mean": Attack(make=profiles.mean, doc="the mean of the training perturbations", is_floor=True),
    "label_only_control": Attack(
        make=profiles.label_only_control,
        doc="the control, with the target itself as far down (or up) as targets were in training",
        is_floor=True,
        is_label_only=True,
    ),
    "label_only_mean": Attack(
        make=profiles.label_only_mean,
        doc="the mean, with the same of the target",
        is_floor=True,
        is_label_only=True,
    ),
    "majority": _classes(
        make=classes.majority,
        doc="the most frequent class of each gene in training",
        is_floor=True,
    ),
    "other_targets_raised": Attack(
        make=profiles.other_targets_raised,
        doc="the label-only control, with the targets of the other perturbations raised",
        is_label_only=True,
    ),
    **{f"scaled_{factor:g}": _scaled(factor) for factor in (0.1, 0.5, 2, 5, 20)},
    "sign_flipped": Attack(
        make=lambda known, random: profiles.scaled(known, -1.0),
        doc="the mean change with the other sign",
    ),
    "noise": Attack(
        make=profiles.noise,
        doc="the mean, with noise as large as training perturbations differ",
        is_random=True,
    ),
    "hard_genes_left_out": Attack(
        make=profiles.hard_genes_left_out,
        doc="the mean, silent on the tenth of the genes that varies most",
    ),
    "perturbations_left_out": Attack(
        make=profiles.perturbations_left_out,
        doc="the mean, silent on a half of the perturbations",
        is_random=True,
    ),
    "best_constant_l2": Attack(
        make=profiles.best_constant_l2,
        doc="for all the training perturbation that is nearest to the others",
    ),
    "best_constant_correlation": Attack(
        make=profiles.best_constant_correlation,
        doc="for all the training perturbation that correlates best with the others",
    ),
    "own_controls_shifted": Attack(
        make=profiles.own_controls_shifted,
        doc="the mean, measured from a control of the file's own that lies too low",
    ),
    "genes_in_another_order": Attack(
        make=profiles.genes_in_another_order,
        doc="the mean, its changes on the wrong genes",
        is_random=True,
    ),
    "any_training_perturbation": Attack(
        make=profiles.any_training_perturbation,
        doc="profiles of training perturbations, dealt out at random",
        is_random=True,
    ),
    "most_similar_name": Attack(
        make=profiles.most_similar_name,
        doc="the profile of the training perturbation whose name is most alike",
        knows="names tell relatives: guides of one target, genes of one family",
    ),
    "four_cells_profile": Attack(
        make=profiles.four_cells, doc="the mean, with the noise of 4 cells", is_random=True
    ),
    "at_test_rate": _classes(
        make=classes.at_test_rate,
        doc="the genes that change most often in training, as many as change in the test set",
    ),
    "all_called": _classes(
        make=classes.all_called,
        doc="every pair called changed, in the direction that the gene has more often",
    ),
    "cells_moved": _cells(
        make=cells.moved, doc="as many control cells as were measured, moved by the mean change"
    ),
    "cells_copied": _cells(make=cells.copied, doc="the same cells three times over"),
    "cells_four": _cells(make=cells.four, doc="4 of these cells"),
    "cells_cancelling": _cells(
        make=cells.cancelling, doc="cells in pairs whose scatter cancels: next to nothing varies"
    ),
    "cells_own_controls": _cells(
        make=cells.moved,
        doc="the moved cells, with controls of the file's own moved the other way",
        own_controls=cells.shifted_controls,
    ),
}

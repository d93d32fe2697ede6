"""The chapters of the page: what each kind of scores shows, and what its numbers are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from markupsafe import Markup

from pertscale.report.class_sections import class_sections
from pertscale.report.sections import (
    Picture,
    Section,
    expression_sections,
    interaction_sections,
    resource_picture,
    transfer_sections,
)
from pertscale.schema import ScoreKind

if TYPE_CHECKING:
    from pertscale.results.result import BenchmarkResult


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """What the page shows of one kind of scores.

    Attributes
    ----------
    title : str
        Heading, and link at the top.
    words : callable
        Takes a result and returns what the numbers mean.
    sections : callable
        Takes a result and returns a section for each context; without any there is no chapter.
    pictures : callable
        Takes a result and returns figures of all contexts.
    otherwise : str
        Shown in place of the chapter where there are no sections.
    of_several : bool
        Whether the page that compares several screens has it; else only the page of each screen.
    """

    title: str
    words: Callable[[BenchmarkResult], Markup]
    sections: Callable[[BenchmarkResult], list[Section]]
    pictures: Callable[[BenchmarkResult], list[Picture]] = lambda result: []
    otherwise: str = ""
    of_several: bool = True


@dataclass(frozen=True)
class ShownChapter:
    """A chapter of one result."""

    title: str
    words: Markup
    sections: list[Section]
    pictures: list[Picture]

    @property
    def anchor(self) -> str:
        """Name in links."""
        return self.title.lower()


def shown_chapters(result: BenchmarkResult) -> list[ShownChapter]:
    """Return the chapters that a result has something to show in."""
    shown = []
    for chapter in CHAPTERS.values():
        sections = []
        if chapter.of_several or not result.screens:
            sections = chapter.sections(result)
        if sections:
            words, pictures = chapter.words(result), chapter.pictures(result)
            shown.append(ShownChapter(chapter.title, words, sections, pictures))
        elif chapter.otherwise:
            shown.append(ShownChapter(chapter.title, Markup(chapter.otherwise), [], []))
    return shown


def _resources(result: BenchmarkResult) -> list[Picture]:
    picture = resource_picture(result)
    return [] if picture is None else [picture]


def _words_of_classes(result: BenchmarkResult) -> Markup:
    return Markup(
        "<p>Methods are fitted on the labels of the training perturbations and scored on the "
        "held-out ones. <b>full</b>: all pairs of a held-out perturbation and a gene; "
        "<b>full_without_target</b>: the perturbed genes themselves left out; <b>curated</b>: "
        "pairs sampled as PerturbQA does, where differentially expressed ones are far more "
        "frequent; <b>confident</b>: of full_without_target the pairs whose labels are likely "
        "right: a change with a local false discovery rate of 20 % at most, or none where the test "
        "had a power of 80 % to find P(perturbed &gt; control) = ½ ± 0.1; calls are those of "
        "full_without_target.</p>\n"
        "<p>How many pairs a method calls differentially expressed decides much of its scores. So "
        "methods are compared at one operating point: <b>as called</b>, by the method itself, or "
        "<b>at the training rate</b>, where each calls as large a share of pairs as is "
        "differentially expressed in training. <b>Average precision</b> needs no calls: of change "
        "against no change, and the mean of up and down; chance is the share of such pairs.</p>\n"
        + _HOW_TO_READ
    )


_HOW_TO_READ = (
    "<p>Scores are means over splits. Below each stands its <b>95 % interval</b>: how far it would "
    "lie off had other perturbations been held out, as many and as different as these. It is made "
    "by drawing the target groups of the held-out perturbations again, 2,000 times (bias-corrected "
    "and accelerated bootstrap). It says nothing of other cells of the same perturbations, of "
    "another cell line, or of other training sets; below 10 groups it is rough, and below 5 there "
    "is none, but the range over splits.</p>\n"
    "<p>Whether two methods differ is not whether their intervals meet: all are scored on the same "
    "draws, and what is hard for one is hard for all, so their <b>difference</b> is known far "
    "better than either score. <b>Bold</b> are the methods that are not worse than the best of a "
    "column, at 5 % after adjusting for the number of methods (Holm); where nothing is bold, "
    "nothing is told apart. comparisons.parquet has each difference with its interval, "
    "ranks.parquet how often each method comes first.</p>\n"
    "<p>What can a score be at all? The cells of each perturbation, and the controls, were split "
    "into halves at random, in several ways; the <b>replicate</b> is what one half says of the "
    "other: the <b>ceiling</b>, at half the cells. The <b>floor</b> is the best method that knows "
    "nothing of the perturbation, scored on the same halves. A metric by which the replicate is "
    "not better than the floor, by the interval of their difference, <b>can't tell</b> (†) "
    "anything on this screen, whoever is ahead by it. <b>DRF</b>: which part of the way from the "
    "floor to perfection the replicate "
    "goes; <b>BDS</b>: on which share of the perturbations it is better; <b>at full depth</b>: "
    "what a correlation would be with all cells in each half; <b>interpolated</b>: the replicate, "
    "pulled to the mean of the other perturbations where a gene is not known to differ. The column "
    "<b>scaled</b> of estimates.parquet has each score on the scale from floor (0) to replicate "
    "(1).</p>"
)


def _words_of_transfer(result: BenchmarkResult) -> Markup:
    apart = result.manifest["options"]["exclude_test_perturbations"]
    seen = (
        "Perturbations that are held out here were left out there as well."
        if apart
        else "Perturbations that are held out here may have been seen there."
    )
    return Markup(
        "<p>Methods are fitted on the perturbations of other contexts and scored on the held-out "
        "ones of this one. Training contexts joined by <b>|</b> were used one at a time and their "
        "scores averaged (pairwise), joined by <b>,</b> together (pooled); scores.parquet has "
        "those of each alone. <b>_overlap</b>: the genes that the training contexts have, too (for "
        "files those of all other contexts); otherwise all genes, of which those without training "
        f"labels count as unchanged. {seen}</p>"
    )


def _words_of_expression(result: BenchmarkResult) -> Markup:
    return Markup(
        "<p>Models predict the mean log1p expression of held-out perturbations. Scores are over "
        "the 1,000 genes that the control expresses most. A table is of one set of perturbations; "
        "a method that predicts fewer of them stands apart, with its own number, and with no "
        "change where it predicts none in a table after that. What a file or a model of yours "
        "leaves out counts as no change. <b>Pearson delta</b>: correlation of predicted and "
        "observed change from the control; <b>from the mean</b>: from the mean training "
        "perturbation; <b>direction</b>: share of genes that change as predicted; <b>without any "
        "effect</b>: what the mean of the training perturbations would score if no perturbation "
        "did anything, as truth and prediction share the noise of the controls; <b>most "
        "changed</b>: share of the 20 most changed genes found; <b>rank</b>: 1 if no other "
        "perturbation's truth is nearer to the prediction, 0.5 is chance; <b>spread</b>: standard "
        "deviation over perturbations against the truth's; <b>eff. rank</b>: directions in which "
        "predictions vary. Below each score stands its 95 % interval over perturbations; bold are "
        "the methods that are not worse than the best.</p>"
    )


def _words_of_interactions(result: BenchmarkResult) -> Markup:
    return Markup(
        "<p>A double perturbation interacts on a gene where its expression departs from the sum of "
        "the singles' changes by more than the empirical null allows.</p>"
    )


#: By kind of scores, in the order of the page.
CHAPTERS: Final[dict[ScoreKind, Chapter]] = {
    "classes": Chapter(
        title="Scores",
        words=_words_of_classes,
        sections=class_sections,
        otherwise="<p>No method was run; what was skipped, and why, is listed below.</p>",
    ),
    "transfer": Chapter(title="Transfer", words=_words_of_transfer, sections=transfer_sections),
    "expression": Chapter(
        title="Expression",
        words=_words_of_expression,
        sections=expression_sections,
        pictures=_resources,
        of_several=False,
    ),
    "interactions": Chapter(
        title="Interactions",
        words=_words_of_interactions,
        sections=interaction_sections,
        of_several=False,
    ),
}

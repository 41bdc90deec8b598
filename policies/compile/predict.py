"""What the expected length of an answer is drawn from: the prior, history, or the model of a file."""

from __future__ import annotations

from policies.files.fileset import FileSet, model_path
from policies.predict.expect import FROM_HISTORY, OutputTokens, Prediction
from policies.predict.model import load_model
from pricing.errors import FileProblem


def compile_prediction(files: FileSet, problems: list[str]) -> Prediction:
    """The section `predict:`, with its model loaded where it is to be used."""
    placed = files.single("predict")
    if placed is None:
        return FROM_HISTORY
    wanted: OutputTokens = placed.value.output_tokens
    if wanted is not OutputTokens.MODEL:
        return Prediction(wanted)
    path = model_path(files)
    if path is None:
        problems.append(placed.problem("output_tokens: model needs a file; write file: with what `sluice train` wrote"))
        return FROM_HISTORY
    try:
        return Prediction(wanted, load_model(path))
    except FileProblem as error:
        problems += [placed.problem(text, "file") for text in error.problems]
        return FROM_HISTORY

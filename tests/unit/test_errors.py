"""The exception tree: its docstring is the truth, and every error tells what, what is affected, what to do."""

import inspect

from fathom import errors


def test_the_drawing_names_every_class_under_its_parent() -> None:
    drawn: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        name = line.lstrip(" │├└─").split(" ")[0]
        if name.endswith(("Error", "Missing", "Unavailable", "Busy", "Damaged", "Newer")):
            drawn.append((len(line) - len(line.lstrip(" │├└─")), name))
    parents: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    for depth, name in drawn:
        while stack and stack[-1][0] >= depth:
            stack.pop()
        if stack:
            parents[name] = stack[-1][1]
        stack.append((depth, name))
    real = {
        name: cls.__bases__[0].__name__
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if cls.__module__ == errors.__name__ and cls is not errors.FathomError
    }
    assert parents == real


def test_the_message_has_its_parts() -> None:
    error = errors.UsageError("port 8600 is taken", affects="the REST listener", do="use --listen")
    assert str(error) == "port 8600 is taken\n  affected: the REST listener\n  to do: use --listen"
    assert str(errors.UsageError("short")) == "short"


def test_a_missing_feature_names_the_kernel_that_has_it() -> None:
    assert (
        str(errors.FeatureMissing("ring buffer", minimum="5.8"))
        == "this kernel has no ring buffer (first in Linux 5.8)"
    )


def test_a_rejected_program_points_to_the_whole_log() -> None:
    error = errors.VerifierError("on_state", "R1 invalid mem access", log_path="x.log", errno=13)
    assert "R1 invalid mem access" in str(error)
    assert "x.log" in str(error)
    assert error.errno == 13

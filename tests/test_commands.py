"""`python -m cspine`: a wrong command line is one line on stderr and exit code 2."""

from __future__ import annotations

import pytest

from cspine.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "cspine: The following arguments are required: COMMAND"),
        (["bogus"], "cspine: Argument COMMAND: invalid choice: 'bogus'"),
        (["train", "--bogus"], "cspine train: Unrecognized arguments: --bogus"),
        (["evaluate", "nowhere"], "cspine evaluate: `data` must be a folder"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments, said, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(said)
    assert error.count("\n") == 1

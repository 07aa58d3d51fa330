"""The bounded number of places for predictions."""

import pytest

from cspine.core.errors import OverloadedError
from cspine.serve.admission import Admission


def test_admission_counts_its_places():
    admission = Admission(1)
    with admission.place():
        assert admission.is_full
        with pytest.raises(OverloadedError, match="Try again"), admission.place():
            pass
    assert admission.taken == 0
    admission.close()
    with pytest.raises(OverloadedError, match="stopping"), admission.place():
        pass

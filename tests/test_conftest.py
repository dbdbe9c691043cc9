from hypothesis import settings


def test_hypothesis_times_no_example():
    assert settings.default is not None
    assert settings.default.deadline is None

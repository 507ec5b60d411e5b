"""Settings of the process that threads share."""

from deconvnet.environment import shared_context


def test_a_shared_context_is_entered_once_and_left_by_the_last():
    calls = []

    @shared_context
    def setting():
        calls.append("change")
        yield len(calls)
        calls.append("restore")

    first, second = setting(), setting()
    assert first.__enter__() == 1
    assert second.__enter__() == 1
    first.__exit__(None, None, None)
    assert calls == ["change"]
    second.__exit__(None, None, None)
    assert calls == ["change", "restore"]
    with setting() as value:
        assert value == 3
    assert calls == ["change", "restore"] * 2

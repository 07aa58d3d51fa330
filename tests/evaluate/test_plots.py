"""Pictures as SVG text."""

from cspine.evaluate.report.plots import plot_history


def test_an_epoch_that_alone_was_judged_is_seen():
    judged = {"loss": [0.9, 0.7, 0.5], "val_loss": [None, None, 0.6]}
    # A marker is placed by `use`; the curve of training has three, that of validation its one.
    without = {"loss": [0.9, 0.7, 0.5], "val_loss": [None, None, None]}
    assert (
        plot_history(judged, "cnn").count("<use ")
        == plot_history(without, "cnn").count("<use ") + 1
    )

"""TensorBoard, whose scalars every run has anyway: besides, the recipe as a text, its values for the dashboard
HParams, and a verdict's report as a text."""

from pathlib import Path

from twinscale.common.trackers.base import Handle, Subject, Tracker
from twinscale.common.training.events import Events

MOST = 100_000  # characters of a text


def opened(subject: Subject) -> Handle:
    """A file of events in the tracker's folder."""
    from tensorboardX.summary import hparams, text

    folder = subject.folder / "tensorboard"
    folder.mkdir(parents=True, exist_ok=True)
    events = Events(folder)
    events.put(text("recipe", f"```toml\n{subject.toml}```"), subject.start)

    def keep(files: list[Path]) -> None:
        for file in files:
            if file.suffix in (".md", ".json"):
                said = file.read_text(encoding="utf-8", errors="replace")[:MOST]
                events.put(text(file.name, said if file.suffix == ".md" else f"```json\n{said}\n```"), 0)

    def end(state, last):
        for summary in hparams(dict(subject.settings), dict(last)):
            events.put(summary, 0)
        for tag, value in last.items():
            events.add(tag, value, 0)
        events.close()

    return Handle(lambda step, metrics: None, keep, end)


TENSORBOARD = Tracker("TensorBoard", ("tensorboardX",), opened, ("tensorboardX",))

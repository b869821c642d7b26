"""Who holds up a job that does not go on, judged from the beats of all ranks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from engine.beats import Beat, is_gone, process_state

_STATES = {
    "T": "its process is stopped (SIGSTOP, or suspended by the scheduler)",
    "t": "its process is held by a debugger",
    "D": "its process waits in the kernel for a disk or a device",
    None: "its process, its machine, or the way from there to the run folder is lost",
}


@dataclass(frozen=True)
class Verdict:
    """Why a job ends.

    Attributes:
        culprits: ranks that the others wait for; all of them where none is behind.
        silent: those of them that cannot tell it themselves.
        text: names them, and what they were doing.
    """

    culprits: tuple[int, ...]
    silent: tuple[int, ...]
    text: str

    @staticmethod
    def of(content: Mapping[str, object]) -> Verdict:
        """From its fields, as JSON gives them back."""
        culprits, silent = (tuple(content.get(name) or ()) for name in ("culprits", "silent"))  # pyright: ignore[reportArgumentType]
        return Verdict(culprits, silent, str(content.get("text")))


def judge(beats: Mapping[int, Beat | None], silent: Collection[int]) -> Verdict:
    """Name the culprits.

    Whoever ended by an error of its own, else whoever no longer runs, else whoever is behind the others.

    Args:
        beats: last beat of each rank; None where it never told anything.
        silent: ranks whose beats have ceased.
    """
    told = {rank: beat for rank, beat in beats.items() if beat is not None}
    failed = [beat for beat in told.values() if beat.ended == "error"]
    if failed:
        return _verdict(
            failed, [f"{one.name} has ended by an error {_where(one)}; its log tells more" for one in failed]
        )
    # Ranks that have lost a peer are on their way out: they are not what the others wait for.
    quiet = [rank for rank in sorted(silent) if rank not in told or not told[rank].ended]
    if quiet:
        texts = [_silence(told[rank]) if rank in told else f"rank {rank} has never answered" for rank in quiet]
        return Verdict(tuple(quiet), tuple(quiet), "; ".join(texts))
    waited_for = [beat for beat in told.values() if not beat.ended] or list(told.values())
    least = min(beat.position for beat in waited_for)
    behind = [beat for beat in waited_for if beat.position == least]
    if 1 < len(behind) == len(beats):
        text = (
            f"all {len(behind)} ranks{_hosts(behind)} are {_where(behind[0])} and none is behind: a collective "
            "operation, a device, or the network between the machines does not go on"
        )
        return _verdict(behind, [text])
    return _verdict(behind, [f"{one.name} is held up for {one.since_s:.0f} s {_where(one)}" for one in behind])


def orphaned(beat: Beat, agent: int) -> Verdict:
    """Name a torchrun agent that is gone; no rank is to blame.

    Args:
        beat: of a rank that it had started.
        agent: number of its process there.
    """
    text = (
        f"the torchrun agent on {beat.host} (process {agent}) is gone, without which nobody looks after the ranks there"
    )
    return Verdict((), (), f"{text}; rank {beat.rank} is {_where(beat)}")


def _verdict(beats: list[Beat], texts: list[str]) -> Verdict:
    return Verdict(tuple(beat.rank for beat in beats), (), "; ".join(texts))


def _silence(beat: Beat) -> str:
    if is_gone(beat):
        return f"{beat.name} is gone; it was last seen {_where(beat)}"
    why = _STATES.get(process_state(beat), "its process runs, but none of its Python threads does")
    return f"{beat.name} no longer answers: {why}; it was last seen {_where(beat)}"


def _hosts(beats: list[Beat]) -> str:
    hosts = sorted({beat.host for beat in beats})
    return f", on {len(hosts)} machines from {hosts[0]} to {hosts[-1]}," if len(hosts) > 1 else f" on {hosts[0]}"


def _where(beat: Beat) -> str:
    return f"after step {beat.step}, stage: {beat.stage.words}"

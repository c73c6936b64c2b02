"""When a turn is over, and whether a voice over the agent is an interruption.

      last speech                 asked again              endpoint
....||||||||||.........|..............|......................|
              <-stop-> prediction     prediction             reply starts
              <---------------- patience ------------------->
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPolicy:
    endpoint_ms: int = 500
    """Silence that ends a turn while the end-of-turn model has said nothing."""
    complete_ms: int = 200
    """Silence that ends a turn the model believes finished."""
    incomplete_ms: int = 1_500
    """Silence that ends a turn the model believes unfinished: the absolute cap."""
    complete_probability: float = 0.5
    ask_every_ms: int = 200
    """The model's verdict depends on how much silence it hears, so it is asked again as that grows."""

    def patience_ms(self, probability: float | None) -> int:
        """How much silence ends the turn, given the newest prediction."""
        if probability is None:
            return self.endpoint_ms
        return self.complete_ms if probability >= self.complete_probability else self.incomplete_ms


def means_interruption(text: str, backchannels: Collection[str]) -> bool:
    """Whether words said over the agent want the floor: anything but backchannels ("mm-hm", "right").

    `backchannels` are lower-case words and phrases; empty text (a cough, noise) wants nothing.
    """
    words = [word.lower() for word in _WORD.findall(text)]
    if not words or " ".join(words) in backchannels:
        return False
    return any(word not in backchannels for word in words)

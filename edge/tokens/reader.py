"""What the agent reads typed digits with: one reader a meter, made at start from its key, behind a port.

`read(text, memory)` is all the agent sees; it passes what the core remembers of the decoder and hands
the answer to `enter_token`. Keys stay in here and in nobody's repr.
"""

from dataclasses import dataclass, field

from edge.core.token import CountMemory, ForMeter, Memory, StsMemory, TokenRead, Unreadable
from edge.tokens.openpaygo_scheme import PaygoDevice, read_paygo
from edge.tokens.sts import decoder_keys, read_for_meter, read_sts

_NO_DECODER = Unreadable("unknown")


@dataclass(frozen=True, slots=True)
class StsReader:
    """Reads STS tokens with the key of commissioning and the key changes since."""

    commissioned_key: int = field(repr=False)

    def read(self, text: str, memory: Memory | None) -> TokenRead:
        """What the text says; unknown while the decoder is not commissioned."""
        if not isinstance(memory, StsMemory):
            return _NO_DECODER
        return read_sts(text, decoder_keys(self.commissioned_key, memory), memory.base_year)


@dataclass(frozen=True, slots=True)
class PaygoReader:
    """Reads OpenPAYGO tokens of one device."""

    device: PaygoDevice

    def read(self, text: str, memory: Memory | None) -> TokenRead:
        """What the text says; unknown while the device is not commissioned."""
        if not isinstance(memory, CountMemory):
            return _NO_DECODER
        return read_paygo(text, self.device, memory)


@dataclass(frozen=True, slots=True)
class RelayReader:
    """Passes on the digits for a meter that has its own decoder."""

    def read(self, text: str, memory: Memory | None) -> ForMeter | Unreadable:
        """The digits, if they can be a token at all. Nothing is remembered of them."""
        return read_for_meter(text)

"""MISTY1, the block cipher of STS encryption algorithm EA11: 64-bit blocks, 128-bit keys, eight rounds.

Written from RFC 2994 and checked with its vectors. Blocks and keys are integers, the first byte
highest. No library of ours has it: `cryptography` and OpenSSL never did. Token checking needs a
few blocks a day, so this is plain Python and not constant in time; keys never leave the process.
"""

import struct
from typing import Final

BLOCK_BITS: Final = 64
KEY_BITS: Final = 128
_ROUNDS: Final = 8
_WORD: Final = 0xFFFF

# RFC 2994, 2.3: S7 is of degree 3 and S9 of degree 2 over GF(2), both are permutations; a test holds them to it.
_S7: Final = bytes.fromhex(
    """
    1b 32 33 5a 3b 10 17 54 5b 1a 72 73 6b 2c 66 49 1f 24 13 6c 37 2e 3f 4a 5d 0f 40 56 25 51 1c 04
    0b 46 20 0d 7b 35 44 42 2b 1e 41 14 4b 79 15 6f 0e 55 09 36 74 0c 67 53 28 0a 7e 38 02 07 60 29
    19 12 65 2f 30 39 08 68 5f 78 2a 4c 64 45 75 3d 59 48 03 57 7c 4f 62 3c 1d 21 5e 27 6a 70 4d 3a
    01 6d 6e 63 18 77 23 05 26 76 00 31 2d 7a 7f 61 50 22 11 06 47 16 52 4e 71 3e 69 43 34 5c 58 7d
    """
)
_S9: Final[tuple[int, ...]] = struct.unpack(
    ">512H",
    bytes.fromhex(
        """
        01c3 00cb 0153 019f 01e3 00e9 00fb 0035 0181 00b9 0117 01eb 0133 0009 002d 00d3 00c7 014a 0037 007e 00eb 0164
        0193 01d8 00a3 011e 0055 002c 001d 01a2 0163 0118 014b 0152 01d2 000f 002b 0030 013a 00e5 0111 0138 018e 0063
        00e3 00c8 01f4 001b 0001 009d 00f8 01a0 016d 01f3 001c 0146 007d 00d1 0082 01ea 0183 012d 00f4 019e 01d3 00dd
        01e2 0128 01e0 00ec 0059 0091 0011 012f 0026 00dc 00b0 018c 010f 01f7 00e7 016c 00b6 00f9 00d8 0151 0101 014c
        0103 00b8 0154 012b 01ae 0017 0071 000c 0047 0058 007f 01a4 0134 0129 0084 015d 019d 01b2 01a3 0048 007c 0051
        01ca 0023 013d 01a7 0165 003b 0042 00da 0192 00ce 00c1 006b 009f 01f1 012c 0184 00fa 0196 01e1 0169 017d 0031
        0180 010a 0094 01da 0186 013e 011c 0060 0175 01cf 0067 0119 0065 0068 0099 0150 0008 0007 017c 00b7 0024 0019
        00de 0127 00db 00e4 01a9 0052 0109 0090 019c 01c1 0028 01b3 0135 016a 0176 00df 01e5 0188 00c5 016e 01de 01b1
        00c3 01df 0036 00ee 01ee 00f0 0093 0049 009a 01b6 0069 0081 0125 000b 005e 00b4 0149 01c7 0174 003e 013b 01b7
        008e 01c6 00ae 0010 0095 01ef 004e 00f2 01fd 0085 00fd 00f6 00a0 016f 0083 008a 0156 009b 013c 0107 0167 0098
        01d0 01e9 0003 01fe 00bd 0122 0089 00d2 018f 0012 0033 006a 0142 00ed 0170 011b 00e2 014f 0158 0131 0147 005d
        0113 01cd 0079 0161 01a5 0179 009e 01b4 00cc 0022 0132 001a 00e8 0004 0187 01ed 0197 0039 01bf 01d7 0027 018b
        00c6 009c 00d0 014e 006c 0034 01f2 006e 00ca 0025 00ba 0191 00fe 0013 0106 002f 01ad 0172 01db 00c0 010b 01d6
        00f5 01ec 010d 0076 0114 01ab 0075 010c 01e4 0159 0054 011f 004b 00c4 01be 00f7 0029 00a4 000e 01f0 0077 004d
        017a 0086 008b 00b3 0171 00bf 010e 0104 0097 015b 0160 0168 00d7 00bb 0066 01ce 00fc 0092 01c5 006f 0016 004a
        00a1 0139 00af 00f1 0190 000a 01aa 0143 017b 0056 018d 0166 00d4 01fb 014d 0194 019a 0087 01f8 0123 00a7 01b8
        0141 003c 01f9 0140 002a 0155 011a 01a1 0198 00d5 0126 01af 0061 012e 0157 01dc 0072 018a 00aa 0096 0115 00ef
        0045 007b 008d 0145 0053 005f 0178 00b2 002e 0020 01d5 003f 01c9 01e7 01ac 0044 0038 0014 00b1 016b 00ab 00b5
        005a 0182 01c8 01d4 0018 0177 0064 00cf 006d 0100 0199 0130 015a 0005 0120 01bb 01bd 00e0 004f 00d6 013f 01c4
        012a 0015 0006 00ff 019b 00a6 0043 0088 0050 015f 01e8 0121 0073 017e 00bc 00c2 00c9 0173 0189 01f5 0074 01cc
        01e6 01a8 0195 001f 0041 000d 01ba 0032 003d 01d1 0080 00a8 0057 01b9 0162 0148 00d9 0105 0062 007a 0021 01ff
        0112 0108 01c0 00a9 011d 01b0 01a6 00cd 00f3 005c 0102 005b 01d9 0144 01f6 00ad 00a5 003a 01cb 0136 017f 0046
        00e1 001e 01dd 00e6 0137 01fa 0185 008c 008f 0040 01b5 00be 0078 0000 00ac 0110 015e 0124 0002 01bc 00a2 00ea
        0070 01fc 0116 015c 004c 01c2
        """
    ),
)


class Misty1:
    """The cipher under one key."""

    def __init__(self, key: int) -> None:
        assert 0 <= key < 1 << KEY_BITS
        words = [key >> shift & _WORD for shift in range(KEY_BITS - 16, -1, -16)]
        mixed = [_fi(word, words[(index + 1) % 8]) for index, word in enumerate(words)]
        self._words, self._mixed = words, mixed

    def encrypt(self, block: int) -> int:
        """The ciphertext of a block."""
        left, right = block >> 32, block & 0xFFFF_FFFF
        for number in range(0, _ROUNDS, 2):
            left = self._fl(left, number)
            right = self._fl(right, number + 1)
            right ^= self._fo(left, number)
            left ^= self._fo(right, number + 1)
        left = self._fl(left, _ROUNDS)
        right = self._fl(right, _ROUNDS + 1)
        return right << 32 | left

    def decrypt(self, block: int) -> int:
        """The plaintext of a block: the rounds in reverse order."""
        right, left = block >> 32, block & 0xFFFF_FFFF
        left = self._fl_inverse(left, _ROUNDS)
        right = self._fl_inverse(right, _ROUNDS + 1)
        for number in range(_ROUNDS - 2, -1, -2):
            left ^= self._fo(right, number + 1)
            right ^= self._fo(left, number)
            left = self._fl_inverse(left, number)
            right = self._fl_inverse(right, number + 1)
        return left << 32 | right

    def _fo(self, half: int, number: int) -> int:
        words, mixed = self._words, self._mixed
        left, right = half >> 16, half & _WORD
        left = _fi(left ^ words[number], mixed[(number + 5) % 8]) ^ right
        right = _fi(right ^ words[(number + 2) % 8], mixed[(number + 1) % 8]) ^ left
        left = _fi(left ^ words[(number + 7) % 8], mixed[(number + 3) % 8]) ^ right
        return (right ^ words[(number + 4) % 8]) << 16 | left

    def _fl(self, half: int, number: int) -> int:
        conjunct, disjunct = self._fl_keys(number)
        left, right = half >> 16, half & _WORD
        right ^= left & conjunct
        left ^= right | disjunct
        return left << 16 | right

    def _fl_inverse(self, half: int, number: int) -> int:
        conjunct, disjunct = self._fl_keys(number)
        left, right = half >> 16, half & _WORD
        left ^= right | disjunct
        right ^= left & conjunct
        return left << 16 | right

    def _fl_keys(self, number: int) -> tuple[int, int]:
        index = number // 2
        if number % 2 == 0:
            return self._words[index], self._mixed[(index + 6) % 8]
        return self._mixed[(index + 2) % 8], self._words[(index + 4) % 8]


def _fi(word: int, key: int) -> int:
    """Sixteen bits through both S-boxes: nine and seven of them, and back."""
    nine, seven = word >> 7, word & 0x7F
    nine = _S9[nine] ^ seven
    seven = _S7[seven] ^ nine & 0x7F
    seven ^= key >> 9
    nine ^= key & 0x1FF
    nine = _S9[nine] ^ seven
    return seven << 9 | nine

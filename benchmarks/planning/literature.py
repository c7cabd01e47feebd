"""Constants of published laws of compression. Each is of its authors' models and data, and of nobody else's: whoever
plans with them is told so.

Bits of a weight: Kumar et al. 2024 ("Scaling Laws for Precision"), equation 3, with the constants of their table 2
(appendix K), where the fit has an offset n: N' = N (1 - exp(n - bits / gamma)). Its sign is the one by which
activations of 3 bits are worth nothing, which is what they report of them.

Sparsity: Frantar et al. 2023 ("Scaling Laws for Sparsely-Connected Foundation Models"), equation 1, with N the
weights that are not 0. Its constants here are not held to a table of the paper, but to the 48 runs of T5 on C4 that the
authors publish (jaxpruner, projects/bigsparse/t5-data.csv), which lie around the law by 1 % of their loss; other
constants do so too.

Distillation: Busbridge et al. 2025 ("Distillation Scaling Laws"), equations 1 and 8 with the constants of their
table 6.
"""

import numpy as np

GAMMA_W, N_W = 2.6745, 0.3037
A_S, B_S, C_S, B_N = 16.8, 0.722, 45.0, 0.245
BITS, SPARSITY = (3.0, 16.0), (0.0, 0.875)  # that were trained
STUDENTS, DISTILLED_ON = (143e6, 12.6e9), (4e9, 512e9)  # parameters and tokens of the students that were trained
BITS_FROM = "literature: Kumar et al. 2024, table 2, not your runs"
SPARSITY_FROM = "literature: Frantar et al. 2023, equation 1, fitted to their runs of T5 to 1 %, not your runs"
DISTILLED_FROM = "literature: Busbridge et al. 2025, table 6, not your runs"


def worth_of_bits(bits: float) -> float:
    """The share of parameters that weights trained at so many bits are worth, of those at 16."""
    return float(np.expm1(N_W - bits / GAMMA_W) / np.expm1(N_W - 16 / GAMMA_W))


def worth_of_kept(sparsity: float) -> float:
    """The dense weights that each weight of a sparse model is worth that is not 0: 1 or more, as where they are is
    chosen too."""
    return float(((A_S + C_S) / (A_S * (1 - sparsity)**B_S + C_S)) ** (1 / B_N))


def supervised(size: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Nats a token of models that learn from text alone, by Busbridge et al."""
    return 1.220 + (3355 / size**0.408 + 18186 / tokens**0.431) ** 0.452


def distilled(size: np.ndarray, tokens: np.ndarray, teacher: float) -> np.ndarray:
    """Nats a token of students of a teacher whose own loss is `teacher`, by Busbridge et al."""
    alone = supervised(size, tokens)
    gap = (2243 / size**0.321 + 24181 / tokens**0.637) ** 0.764 / teacher**2.549
    return teacher + gap * np.exp(-522.6 * 0.090 * np.log1p((teacher / (1.315 * alone)) ** (1 / 0.090)))

"""P1 of the parity ladder: every operation of either backend against references, as `common/operations.py` has them."""

from benchmarks.ladder import check, rung
from common.operations import stale_deviations


def operations_rung(rows):
    """P1, from the rows of both backends' `operation_rows`.

    A listed deviation does not count, nor does what the frameworks' stock functions do in the place of ours. Beside a
    rung's keys: "known", the excused rows of ours; "stock", the rows of stock functions that are above their bounds;
    "stale", the listed deviations that the rows no longer show.
    """
    ours = [row for row in rows if not row["stock"]]
    checks = [check(f"{row['backend']} {row['dtype']}", row["error"], row["bound"],
                    f"{row['operation']}, {row['case']} ({row['how']})", f"eps: {row['bound_from']}")
              for row in ours if row["known"] is None]
    found = rung("P1", "operations", "one arithmetic: every operation as near its reference as rounding allows", checks)
    return found | {"known": [row for row in ours if row["known"] is not None],
                    "stock": [row for row in rows if row["stock"] and not row["agrees"]],
                    "stale": stale_deviations(rows)}

"""What S3 costs, as it was once: the list prices that estimates are made from, with where they are from and when.

The figures are those of https://aws.amazon.com/s3/pricing/ as they were known on `DATED`, in US dollars before tax, of
the first tier of each (50 TB a month of STANDARD, 10 TB a month of transfer). Prices change: what is made from them is
an estimate, never a bill.

They were held against what others had published of that page up to 2025, which agreed: us-east-1 except for
ONEZONE_IA and GLACIER; of eu-central-1 STANDARD, STANDARD_IA, DEEP_ARCHIVE and requests; of ap-northeast-1 STANDARD and
requests. The others nobody has checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

DATED: Final = "2025-06-01"
SOURCE: Final = "https://aws.amazon.com/s3/pricing/"
FALLBACK: Final = "us-east-1"

_GB = 1 << 30  # AWS's gigabytes are of 2**30 bytes ("Amazon S3 FAQs")


@dataclass(frozen=True, slots=True)
class Prices:
    """Of one region, in dollars. Classes are named as listings name them; STANDARD stands in for one not known here."""

    region: str
    storage: Mapping[str, float]  # a GB and month
    get: float  # of STANDARD, for 1,000: GET and SELECT
    list: float  # for 1,000: LIST, PUT, COPY and POST
    retrieval: Mapping[str, float]  # a GB read of classes that are charged for it
    transfer: float  # a GB out to the internet

    def storage_of(self, storage_class: str, size: int) -> float:
        """A month of so many bytes."""
        return self.storage.get(storage_class, self.storage["STANDARD"]) * size / _GB

    def requests(self, *, gets: int = 0, lists: int = 0) -> float:
        """So many requests of each kind."""
        return (gets * self.get + lists * self.list) / 1000

    def retrieval_of(self, storage_class: str, size: int) -> float:
        """What reading so many bytes costs beside requests and transfer."""
        return self.retrieval.get(storage_class, 0.0) * size / _GB

    def transfer_of(self, size: int) -> float:
        """So many bytes out to the internet; inside of the region they are free."""
        return self.transfer * size / _GB


def prices_of(region: str | None) -> Prices:
    """Those of a region, or of us-east-1 where it is not in the table: `Prices.region` says whose they are."""
    return _TABLE.get(region or FALLBACK, _TABLE[FALLBACK])


def regions() -> list[str]:
    """Those that the table has."""
    return sorted(_TABLE)


def _row(
    region: str,
    standard: float,
    infrequent: float,
    one_zone: float,
    instant: float,
    flexible: float,
    deep: float,
    *,
    get: float,
    list: float,
    transfer: float,
) -> Prices:
    return Prices(
        region,
        MappingProxyType(
            {
                "STANDARD": standard,
                "INTELLIGENT_TIERING": standard,  # of its frequent tier: listings do not tell the tiers apart
                "STANDARD_IA": infrequent,
                "ONEZONE_IA": one_zone,
                "GLACIER_IR": instant,
                "GLACIER": flexible,
                "DEEP_ARCHIVE": deep,
                "REDUCED_REDUNDANCY": 0.024 if region == FALLBACK else standard,
            }
        ),
        get,
        list,
        MappingProxyType({"STANDARD_IA": 0.01, "ONEZONE_IA": 0.01, "GLACIER_IR": 0.03}),
        transfer,
    )


_TABLE: Final[Mapping[str, Prices]] = MappingProxyType(
    {
        row.region: row
        for row in (
            _row("us-east-1", 0.023, 0.0125, 0.01, 0.004, 0.0036, 0.00099, get=0.0004, list=0.005, transfer=0.09),
            _row("us-east-2", 0.023, 0.0125, 0.01, 0.004, 0.0036, 0.00099, get=0.0004, list=0.005, transfer=0.09),
            _row("us-west-2", 0.023, 0.0125, 0.01, 0.004, 0.0036, 0.00099, get=0.0004, list=0.005, transfer=0.09),
            _row("eu-west-1", 0.023, 0.0125, 0.01, 0.004, 0.0036, 0.00099, get=0.0004, list=0.005, transfer=0.09),
            _row(
                "eu-central-1", 0.0245, 0.0135, 0.0108, 0.005, 0.00405, 0.0018, get=0.00043, list=0.0054, transfer=0.09
            ),
            _row(
                "ap-northeast-1", 0.025, 0.0138, 0.011, 0.005, 0.0045, 0.002, get=0.00037, list=0.0047, transfer=0.114
            ),
            _row("ap-southeast-1", 0.025, 0.0138, 0.011, 0.005, 0.0045, 0.002, get=0.0004, list=0.005, transfer=0.12),
        )
    }
)

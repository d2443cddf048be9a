"""Terms of the weights that timm publishes under its names."""

from mgd_ssl.models.families.dinov3 import EUPE, TERMS
from mgd_ssl.models.families.family import Terms
from mgd_ssl.models.timm_networks import is_timm, license_of

# Where a license's name, as timm writes it, says that the weights are for no commercial use.
NON_COMMERCIAL = ("-nc-", "noncommercial", "non-commercial")
KNOWN = {"dinov3-license": TERMS, "fair-noncommercial-research-license": EUPE}


def published_terms(name: str) -> Terms | None:
    """Terms of published weights by their name; None where nothing says them."""
    said = license_of(name) if is_timm(name) and name.startswith("timm/") else None
    if said is None:
        return None
    known = KNOWN.get(said)
    if known:
        return Terms(known.license, known.obligation)
    bound = any(word in said for word in NON_COMMERCIAL)
    return Terms(said, "no commercial use" if bound else "")

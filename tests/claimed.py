"""The claims as `claims.yaml` writes them, and the runs that they name."""

from hgrl.core.loading import load_yaml
from hgrl.reporting import claims

SPECIFICATION = load_yaml(claims.CLAIMS)


def in_profile(claim, profile):
    return claim | claim.get("in_profile", {}).get(profile, {})


def sides():
    """(claim, profile, ours, theirs) of every claim, and of the profiles with other runs."""
    for claim in SPECIFICATION["claims"]:
        for profile in (None, *claim.get("in_profile", {})):
            merged = in_profile(claim, profile)
            yield claim, profile, merged["ours"], merged["theirs"]


def names(side_):
    return [side_] if isinstance(side_, str) else side_


def every_run():
    return sorted({run for _, _, ours, theirs in sides() for run in (*names(ours), *names(theirs))})

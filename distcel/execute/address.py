"""Which Ray cluster is joined, and whether it answers: one call, before Ray is asked to connect.

Ray itself tries for more than a minute where no host answers, and for half a minute where the token
is wrong, with a reason that names neither.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from distcel.experiment.errors import invalid, require

_SECONDS_TO_ANSWER = 10.0
_CHECK_ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"  # answered by every Ray cluster's head


def chosen_address(address: str | None) -> tuple[str | None, str]:
    """The address of the cluster to join, None for a new one on this machine, and who chose it.

    Args:
        address: the user's `--address`, which goes before `RAY_ADDRESS`; `local` is a new cluster
            whatever the variable is.

    Raises:
        InvalidInputError: it is the address of Ray Client or of a dashboard.
    """
    by = "--address" if address else "RAY_ADDRESS"
    found = address or os.environ.get("RAY_ADDRESS") or "local"
    if found == "local":
        return None, by
    # Ray Client has no streaming tasks.
    direct = found == "auto" or re.fullmatch(r"[^/]+:\d+", found) is not None
    remedy = "give the port of its GCS, 6379 unless it was started with another, without a scheme"
    require(direct, f"{by} HOST:PORT of a cluster's head", found, remedy)
    return found, by


def require_answer(address: str, by: str) -> None:
    """Check that a cluster answers at the address and takes this process's token.

    Args:
        address: `HOST:PORT`, or `auto`, which Ray resolves.
        by: what the user gave it by, for the message.

    Raises:
        InvalidInputError: nothing answers within ten seconds, or the token is missing or wrong.
    """
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):  # Ray alone has the certificates
        return
    import grpc
    from ray._private.services import canonicalize_bootstrap_address_or_die

    remedy = "start one with `ray start --head`, or leave the address out"
    token = _token()
    metadata = [("authorization", f"Bearer {token}")] if token else []
    try:
        found = canonicalize_bootstrap_address_or_die(address) if address == "auto" else address
        with grpc.insecure_channel(found, options=[("grpc.enable_http_proxy", 0)]) as channel:
            check_alive = channel.unary_unary(_CHECK_ALIVE)
            check_alive(b"", timeout=_SECONDS_TO_ANSWER, metadata=metadata)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            raise _refused(found, token) from None
        why = " ".join(str(error.details()).split())
        raise invalid(
            f"a Ray cluster that answers at {by}", f"{address!r} ({why})", remedy
        ) from None
    except ConnectionError as error:
        why = " ".join(str(error).split())
        raise invalid(
            f"a Ray cluster that answers at {by}", f"{address!r} ({why})", remedy
        ) from None


def _refused(address: str, token: str | None) -> Exception:
    rule = f"the token of the Ray cluster at {address}"
    copy = "copy the token of its head to ~/.ray/auth_token here"
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return invalid(
            rule, "none (RAY_AUTH_MODE is not set)", f"set RAY_AUTH_MODE=token, and {copy}"
        )
    return invalid(rule, "another one" if token else "none", copy)


def _token() -> str | None:
    """The token that Ray would send, from the first of its three places that has one."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return None
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return path.read_text().strip() or None
    except OSError:
        return None

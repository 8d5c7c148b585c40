"""What a site may set about its console. Light on purpose: the agent's config reads it without the web libraries."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """Defaults suit a console on the local network without internet."""

    # Names a browser may call this console by; against DNS rebinding (SECURITY.md R27).
    allowed_hosts: tuple[str, ...] = ("localhost",)
    # An address typed as numbers cannot be rebound, and a technician on site has nothing else.
    allow_ip_addresses: bool = True
    default_language: str = "en"
    token_accounts: frozenset[str] = frozenset()  # whose meters take typed tokens
    secure_cookies: bool = False  # true behind HTTPS
    actor: str = "console"  # the name a command is recorded under
    events_per_page: int = 50
    ledger_lines: int = 15  # on an account's page; the event log has the rest
    plot_days: int = 30
    live_interval_s: float = 1.0  # at most one message a second and page
    live_heartbeat_s: float = 15.0  # a silent connection is told apart from a dead one
    live_clients_max: int = 24
    form_bytes_max: int = 8192
    connections_max: int = 200
    low_days: int = 7  # fewer days than this are shown as low

"""Which IP addresses a webhook may be sent to.

The tables follow IANA's registries of special-purpose addresses. Python's own `is_global` comes on top, but is not
enough: older releases take some of these for public, and all of them those that are translated to IPv4.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

Networks: TypeAlias = tuple[IPv4Network | IPv6Network, ...]

#: What belongs to a machine or a private network; development may open these, and no others.
_PRIVATE: Networks = tuple(
    map(ip_network, ("10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"))
)

#: What else is not the public internet, or may lead out of it.
_SPECIAL: Networks = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # this network
            "100.64.0.0/10",  # carrier-grade NAT
            "169.254.0.0/16",  # link-local, where clouds serve their credentials
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # multicast tunnels
            "192.88.99.0/24",  # relays of 6to4
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
            "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which wraps IPv4
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)

#: All that is given out to the public. Outside are, among others, `::ffff:0:0/96` and `::/96`, which stand for IPv4,
#: `64:ff9b::/96` and `64:ff9b:1::/48`, which are translated to it, `5f00::/16`, `fe80::/10`, `fec0::/10`, `ff00::/8`.
_PUBLIC_IPV6 = IPv6Network("2000::/3")


def is_allowed(text: str, allow_private: bool = False) -> bool:
    """Whether a webhook may be sent to an IP address.

    Args:
        text: the address, as a resolver gives it.
        allow_private: whether loopback and private addresses are allowed as well.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return (allow_private and _is_in(address, _PRIVATE)) or _is_public(address)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and (address.scope_id or address not in _PUBLIC_IPV6):
        return False
    return address.is_global and not _is_in(address, _PRIVATE) and not _is_in(address, _SPECIAL)


def _is_in(address: IPv4Address | IPv6Address, networks: Networks) -> bool:
    return any(address in network for network in networks)

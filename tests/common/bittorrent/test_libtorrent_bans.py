"""A liar's whole address is shut out for ten minutes, never our own."""

from __future__ import annotations

from common.bittorrent.libtorrent_bans import BAN_SECONDS, Bans


def test_a_ban_ends_after_its_time():
    bans = Bans("10.0.0.1")
    assert bans.add("10.0.0.2", 0)
    assert not bans.add("10.0.0.2", 5)
    assert bans.add("10.0.0.3", 6)
    assert not bans.expire(BAN_SECONDS)
    assert bans.expire(BAN_SECONDS + 5)
    assert bans.addresses == ("10.0.0.3",)


def test_our_own_address_is_never_banned():
    bans = Bans("127.0.0.1")
    assert not bans.add("127.0.0.1", 0)
    assert bans.addresses == ()


def test_the_list_is_bounded_and_forgets_the_oldest():
    bans = Bans("10.0.0.1")
    for number in range(1001):
        bans.add(f"10.1.{number // 256}.{number % 256}", number)
    assert len(bans.addresses) == 1000
    assert "10.1.0.0" not in bans.addresses


def test_the_filter_blocks_what_is_banned_and_nothing_else():
    bans = Bans("10.0.0.1")
    bans.add("10.0.0.2", 0)
    rules = bans.filter()
    assert rules.access("10.0.0.2") == 1
    assert rules.access("10.0.0.3") == 0

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.inventory_model import Disk, HostFacts, Machine
from agent.inventory_reading import os_release_name, processor_of, read_machine
from agent.model import Engine
from common.host_counters import counted_interface

CPUINFO = "\n\n".join(
    f"""processor\t: {number}
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz
physical id\t: {number // 4}
core id\t\t: {number % 4 // 2}
flags\t\t: fpu cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3 avx avx2 bmi1 bmi2 f16c fma abm movbe xsave vmx aes
hypervisor\t: yes"""
    for number in range(8)
)


def test_a_processor_is_counted_by_sockets_cores_and_threads() -> None:
    processor = processor_of(CPUINFO)
    assert processor.model == "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz"
    assert (processor.sockets, processor.cores, processor.threads) == (2, 4, 8)
    assert processor.flags == ("x86-64-v2", "x86-64-v3", "aes", "avx", "avx2", "vmx")


def test_an_arm_processor_has_other_words() -> None:
    processor = processor_of("processor\t: 0\nFeatures\t: fp asimd aes\n\nprocessor\t: 1\nFeatures\t: fp asimd aes\n")
    assert (processor.cores, processor.threads, processor.flags) == (2, 2, ("aes", "asimd"))


@given(st.text(max_size=300))
def test_nonsense_is_no_processor_and_no_failure(text: str) -> None:
    assert processor_of(text).threads >= 0
    os_release_name(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian', "Debian GNU/Linux 12 (bookworm)"), ("ID=x", "")],
)
def test_the_release_has_a_name(text: str, name: str) -> None:
    assert os_release_name(text) == name


def test_disks_are_whole_ones(tmp_path: Path) -> None:
    for name, size, rotational, model in (
        ("sda", 3907029168, "1", "WDC WD2000"),
        ("nvme0n1", 1000215216, "0", "Samsung"),
        ("loop0", 8, "0", ""),
        ("dm-0", 8, "0", ""),
        ("sr0", 2097151, "1", "DVD"),
        ("sdz", 0, "0", "empty reader"),
    ):
        directory = tmp_path / "sys/block" / name
        (directory / "queue").mkdir(parents=True)
        (directory / "device").mkdir()
        (directory / "size").write_text(f"{size}\n")
        (directory / "queue/rotational").write_text(f"{rotational}\n")
        (directory / "device/model").write_text(f"{model}\n")
    assert read_machine(tmp_path).disks == (
        Disk("nvme0n1", "Samsung", 1000215216 * 512, False),
        Disk("sda", "WDC WD2000", 3907029168 * 512, True),
    )


@pytest.mark.parametrize(
    ("product", "container", "word"),
    [("KVM", "", "kvm"), ("VMware Virtual Platform", "", "vmware"), ("PowerEdge R740", "", ""), ("KVM", "lxc", "lxc")],
)
def test_a_machine_in_a_machine_says_so(tmp_path: Path, product: str, container: str, word: str) -> None:
    (tmp_path / "sys/class/dmi/id").mkdir(parents=True)
    (tmp_path / "sys/class/dmi/id/product_name").write_text(product)
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/environ").write_text(f"HOME=/\0container={container}\0" if container else "HOME=/\0")
    assert read_machine(tmp_path).virtualisation == word


def test_nothing_that_can_be_read_is_an_empty_machine(tmp_path: Path) -> None:
    machine = read_machine(tmp_path)
    assert (machine.kernel, machine.boot_id, machine.disks, machine.processor.threads) == ("", "", (), 0)


def test_this_machine_has_a_kernel_a_boot_and_a_processor() -> None:
    machine = read_machine()
    assert machine.kernel
    assert machine.boot_id
    assert machine.processor.threads > 0
    for interface in machine.interfaces:
        assert counted_interface(interface.name)
        assert all("/" in address for address in interface.addresses)


def facts(**changed: object) -> HostFacts:
    values = {
        "hostname": "e1",
        "architecture": "amd64",
        "operating_system": "linux",
        "cpus": 2,
        "memory_bytes": 1 << 30,
    }
    return HostFacts(**{**values, "disk_free_bytes": 50, "disk_bytes": 160, **changed})  # type: ignore[arg-type]


def test_only_news_are_news() -> None:
    assert facts().same_host(facts(disk_free_bytes=59))
    assert not facts().same_host(facts(disk_free_bytes=61))
    assert not facts().same_host(facts(engines=(Engine("docker", "29"),)))
    assert not facts().same_host(facts(machine=Machine(boot_id="another")))

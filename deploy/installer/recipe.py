"""What the installer environment is made of; data.

Everything comes from Debian's packages, without changes. What a machine may need before it has a system is here: cards
of its network, controllers of its disks, and the few programs that busybox has not. Sizes: docs/decisions/0049.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# Programs by package: the file in the package, and where it stands in the environment.
_PROGRAMS: Mapping[str, Mapping[str, str]] = {
    "busybox-static": {"bin/busybox": "bin/busybox"},
    "zstd": {"usr/bin/zstd": "bin/zstd"},
    "kexec-tools": {"sbin/kexec": "bin/kexec"},
    "fdisk": {"sbin/sfdisk": "bin/sfdisk"},
    "mtools": {"usr/bin/mtools": "bin/mtools"},
    "qemu-utils": {"usr/bin/qemu-img": "bin/qemu-img"},
    "perl-base": {"usr/bin/perl": "bin/perl"},
}
# The same for files whose folder is named after the architecture, by how their path ends. mtools asks for the code page
# of DOS as soon as it starts, and glibc finds it in a file.
_PARTS: Mapping[str, str] = {"/gconv/IBM850.so": "lib/gconv/IBM850.so"}
# A name of a module, or a folder below `kernel/` of which all modules are taken.
_MODULES = (
    # Machines that are none.
    *("drivers/virtio", "virtio_blk", "virtio_net", "virtio_scsi", "vmxnet3", "vmw_pvscsi", "vmw_balloon"),
    *("hv_vmbus", "hv_netvsc", "hv_storvsc", "xen-netfront", "xen-blkfront", "ena", "gve"),
    # Cards.
    *("drivers/net/ethernet/intel", "drivers/net/ethernet/realtek", "drivers/net/ethernet/aquantia", "tg3", "bnx2"),
    *("bnx2x", "bnxt_en", "mlx4_en", "mlx5_core", "be2net", "enic", "cxgb4", "qede", "sfc", "hinic", "hns3"),
    *("sky2", "skge", "alx", "atl1c", "pcnet32", "amd-xgbe", "forcedeth", "8021q", "bonding"),
    *("drivers/net/phy",),
    # Disks and their controllers.
    *("sd_mod", "sr_mod", "nvme", "ahci", "ahci_platform", "ata_piix", "ata_generic", "sata_nv", "sata_sil", "sata_mv"),
    *("pata_amd", "vmd", "megaraid_sas", "mpt3sas", "mpi3mr", "mptsas", "mptspi", "smartpqi", "hpsa", "aacraid"),
    *("arcmsr", "isci", "mvsas", "pm80xx", "hisi_sas_v3_hw", "sdhci-pci", "sdhci-acpi", "mmc_block"),
    *("xhci_pci", "ehci_pci", "uhci_hcd", "ohci_pci", "usb-storage", "uas"),
    # What scripts that configure hardware may mount.
    *("ext4", "vfat", "isofs", "loop", "efivarfs", "nls_cp437", "nls_ascii", "nls_iso8859-1", "nls_utf8"),
    *("ipmi_si", "ipmi_devintf", "crc32c_generic", "crc32c-intel"),
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """`architecture` in Debian's word. `kernel`: the package whose dependency is today's kernel."""

    architecture: str
    kernel: str
    loader: str
    programs: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: _PROGRAMS)
    parts: Mapping[str, str] = field(default_factory=lambda: _PARTS)
    modules: Sequence[str] = _MODULES

    @property
    def key(self) -> str:
        """Another one needs other packages."""
        return f"{self.kernel} {' '.join(sorted(self.programs))}"


AMD64 = Recipe("amd64", "linux-image-amd64", "ld-linux-x86-64.so.2")
ARM64 = Recipe("arm64", "linux-image-arm64", "ld-linux-aarch64.so.1")
RECIPES: Mapping[str, Recipe] = {recipe.architecture: recipe for recipe in (AMD64, ARM64)}

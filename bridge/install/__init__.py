"""Installing: a file system or a whole disk is made to boot an image.

config          what the image asks for (`/usr/lib/bootc/install/*.toml`)
partitions      the partition table, as data
tools           the programs that do partitioning and mkfs
disk            a disk with its file systems, mounted while it is filled
efi             what the firmware starts, on the EFI system partition
signed          GRUB as distributions sign it
first_state     what a new root gets beside its deployment: fstab, ssh keys, aleph
to_filesystem   an image into a directory where file systems are mounted
to_disk         all of it
"""

"""The initramfs: what is in one (`cpio`, `unpack`, `lz4`), and one to be made again (`pack`)."""

"""Deployments: what turns a commit of the sysroot's repository into something that boots.

All but `update` know nothing of images: they are handed a commit and the text of an origin.
`update` has an image pulled and hands on its commit. The layout on disk is libostree's, so that
`ostree admin` and bootc can take over a machine at any time, and hand it back:

    boot/loader -> loader.1                       the live boot entries: boot/loader.1/entries/*
    boot/ostree/STATEROOT-BOOTCSUM/               kernel and initramfs
    ostree/repo                                   the repository
    ostree/boot.1 -> boot.1.0                     what ostree= on the kernel command line names
    ostree/boot.1.0/STATEROOT/BOOTCSUM/0          -> the deployment's directory
    ostree/deploy/STATEROOT/deploy/CHECKSUM.0     a deployment: hard links to the repository's
                                                  objects, and an /etc of its own
    ostree/deploy/STATEROOT/deploy/CHECKSUM.0.origin
    ostree/deploy/STATEROOT/var                   /var of all deployments of the stateroot
    ostree/lock                                   held by whoever changes any of this

Where libostree freezes and thaws /boot after a switch, for boot loaders that cannot read a
journal, we sync the file system.
"""

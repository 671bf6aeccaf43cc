"""Cgroup paths as systemd, container runtimes and kubelets make them, and what they say."""

from __future__ import annotations

import pytest

from fathom.identity.placement import Placement, placement

A, B = "a1" * 32, "0b" * 32
UID = "0a1b2c3d-1111-2222-3333-444455556666"
UNDER = UID.replace("-", "_")
STATIC = "0a1b2c3d111122223333444455556666"


def container(cid: str = A, runtime: str = "", pod: str = "") -> Placement:
    return Placement("container", cid[:12], cid, pod, runtime)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        # systemd units
        ("/system.slice/nginx.service", Placement("unit", "nginx.service")),
        ("/system.slice/system-getty.slice/getty@tty1.service", Placement("unit", "getty@tty1.service")),
        ("/system.slice/foo.service/payload/deep", Placement("unit", "foo.service")),
        ("/init.scope", Placement("unit", "init.scope")),
        ("/system.slice/dbus.socket", Placement("unit", "dbus.socket")),
        ("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope", Placement("unit", "machine-qemu\\x2d1\\x2dvm.scope")),
        ("/custom.slice/custom-a.slice/b.service", Placement("unit", "b.service")),
        # users
        ("/user.slice/user-1000.slice/session-3.scope", Placement("session", "user-1000-session-3")),
        ("/user.slice/user-0.slice/session-c1.scope", Placement("session", "user-0-session-c1")),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", Placement("unit", "user-1000-init.scope")),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service",
            Placement("unit", "user-1000-foo.service"),
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-org.mozilla.firefox-12345.scope",
            Placement("unit", "user-1000-app-gnome-org.mozilla.firefox.scope"),
        ),
        ("/user.slice/user-1000.slice/user@1000.service", Placement("unit", "user@1000.service")),
        # containers: systemd driver, cgroupfs driver
        (f"/system.slice/docker-{A}.scope", container(runtime="docker")),
        (f"/docker/{A}", container(runtime="docker")),
        (f"/system.slice/nerdctl-{A}.scope", container(runtime="containerd")),
        (f"/default/{A}", container()),
        (f"/machine.slice/libpod-{A}.scope", container(runtime="podman")),
        (f"/machine.slice/libpod-{A}.scope/container", container(runtime="podman")),
        (f"/libpod_parent/libpod-{A}", container(runtime="podman")),
        (
            f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope/container",
            container(runtime="podman"),
        ),
        (f"/machine.slice/libpod-conmon-{A}.scope", Placement("unit", "libpod-conmon")),
        (f"/system.slice/crio-conmon-{A}.scope", Placement("unit", "crio-conmon")),
        ("/lxc.payload.web/system.slice/nginx.service", Placement("container", "web", "web", runtime="lxc")),
        ("/lxc/web", Placement("container", "web", "web", runtime="lxc")),
        # containers inside containers: the innermost
        (f"/system.slice/docker-{A}.scope/docker/{B}", container(B, "docker")),
        (f"/docker/{A}/system.slice/nginx.service", container(runtime="docker")),
        # pods: three QoS classes, both drivers, three runtimes
        (
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDER}.slice/cri-containerd-{A}.scope",
            container(runtime="containerd", pod=UID),
        ),
        (
            f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDER}.slice/crio-{A}.scope",
            container(runtime="cri-o", pod=UID),
        ),
        (
            f"/kubepods.slice/kubepods-pod{UNDER}.slice/docker-{A}.scope",
            container(runtime="docker", pod=UID),
        ),
        (f"/kubepods/burstable/pod{UID}/{A}", container(pod=UID)),
        (f"/kubepods/besteffort/pod{UID}/{A}", container(pod=UID)),
        (f"/kubepods/pod{UID}/{A}", container(pod=UID)),
        (f"/kubepods/pod{UID}/crio-{A}", container(runtime="cri-o", pod=UID)),
        (f"/kubepods/pod{STATIC}/{A}", container(pod=STATIC)),
        (
            f"/system.slice/containerd.service/kubepods-burstable-pod{UNDER}.slice:cri-containerd:{A}",
            container(runtime="containerd", pod=UID),
        ),
        # a kubelet inside a container (kind)
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/"
            f"kubelet-kubepods-besteffort-pod{UNDER}.slice/cri-containerd-{A}.scope",
            container(runtime="containerd", pod=UID),
        ),
        (f"/docker/{B}/kubelet/kubepods/besteffort/pod{UID}/{A}", container(pod=UID)),
        (f"/kubepods/burstable/pod{UID}", Placement("container", f"pod-{UID}", pod_uid=UID)),
        # nothing that tells
        ("/", None),
        ("", None),
        ("/system.slice", None),
        ("/user.slice/user-1000.slice", None),
        ("/my/own/tree", None),
        ("/../../elsewhere", None),
        ("/docker/not-an-id", None),
        (f"/process/{A[:40]}", None),
    ],
)
def test_what_a_path_says(path: str, expected: Placement | None) -> None:
    assert placement(path) == expected

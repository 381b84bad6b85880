# SPDX-License-Identifier: Apache-2.0
"""A daemon in front of a vendor with OAuth, and the steps that a person takes."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from oauth_vendor import Vendor

from harness import VENDOR_TOKEN, Daemon, Rest, Workspace

TARGET = {"pipeline_id": 1, "stage_id": 11}


class Installed:
    """A daemon, the vendor, and the steps that a person takes."""

    def __init__(self, daemon: Daemon, vendor: Vendor):
        self.daemon, self.vendor = daemon, vendor
        self.workspace: Workspace = daemon.workspace("acme")
        self.url = f"{self.workspace.base}/integrations/pipedrive"

    @property
    def rest(self) -> Rest:
        return self.daemon.rest

    def set_app(self, secret: str = Vendor.SECRET) -> dict[str, Any]:
        return self.rest.put("/v1/admin/apps/pipedrive", {"client_id": Vendor.CLIENT, "client_secret": secret})

    def authorize(self, **body: Any) -> dict[str, Any]:
        return self.rest.post(f"{self.url}/authorize", body)

    def install(self, expect: tuple[int, ...] = (200, 201), **body: Any) -> Any:
        """Authorises, consents, and hands in the address that the vendor sends back to."""
        link = self.authorize(**body)
        return self.rest.post(
            f"{self.url}/authorize/complete", {"redirect_url": self.vendor.consent(link["url"])}, expect=expect
        )

    def connect(self, **body: Any) -> dict[str, Any]:
        self.set_app()
        return self.install(**TARGET, **body)

    def shown(self) -> dict[str, Any]:
        return self.workspace.connection()

    def tokens(self) -> dict[str, Any]:
        return self.shown()["oauth"]

    def callback(self, url: str) -> Any:
        parts = urllib.parse.urlsplit(url)
        return Rest(self.daemon.url).request("GET", f"{parts.path}?{parts.query}")


@pytest.fixture
def installed(own) -> Iterator[Callable[..., Installed]]:
    vendors: list[Vendor] = []

    def make(rotating: bool = True, expires_in: int | None = 3600, **settings: Any) -> Installed:
        daemon = own(**settings)
        vendor = Vendor(daemon.sandbox.url, VENDOR_TOKEN, rotating=rotating, expires_in=expires_in)
        vendors.append(vendor)
        daemon.settings["plugins"]["pipedrive"]["endpoints"] = {"api": vendor.url, "oauth": vendor.url}
        daemon.write_config()
        return Installed(daemon.start(), vendor)

    yield make
    for vendor in vendors:
        vendor.stop()

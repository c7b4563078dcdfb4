"""`/api/v1/machines/{machine}/power`: where its BMC is (the platform's to say), and what is done with its power."""

from __future__ import annotations

from fastapi import APIRouter, status

from control_plane.machines.power.schemas import (
    BmcBody,
    PowerOrderBody,
    PowerOrderView,
    PowerView,
    order_view,
    power_view,
)
from control_plane.machines.power.service import PowerService
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery


def power_routes(service: PowerService) -> APIRouter:
    router = APIRouter(prefix="/api/v1/machines/{machine_id}/power", tags=["machines"])

    @router.get("")
    async def look(principal: CurrentPrincipal, machine_id: str) -> Envelope[PowerView]:
        """What its BMC said last, and what is ordered. The BMC itself is shown to the platform's administrators."""
        return Envelope[PowerView](data=power_view(await service.look(principal, machine_id)))

    @router.put("/bmc")
    async def describe(principal: CurrentPrincipal, machine_id: str, body: BmcBody) -> Envelope[PowerView]:
        """Say where its BMC is, and with what login. The password is shown to nobody."""
        return Envelope[PowerView](data=power_view(await service.describe(principal, machine_id, body.wish())))

    @router.delete("/bmc", status_code=status.HTTP_204_NO_CONTENT)
    async def forget(principal: CurrentPrincipal, machine_id: str) -> None:
        """Forget its BMC."""
        await service.forget(principal, machine_id)

    @router.post("/orders", status_code=status.HTTP_202_ACCEPTED)
    async def order(principal: CurrentPrincipal, machine_id: str, body: PowerOrderBody) -> Envelope[PowerOrderView]:
        """Order what shall be done with its power. The regional of its data centre does it, once."""
        made = await service.order(principal, machine_id, body.deed, body.within)
        return Envelope[PowerOrderView](data=order_view(made))

    @router.get("/orders")
    async def history(principal: CurrentPrincipal, machine_id: str, page: PageQuery) -> Listing[PowerOrderView]:
        """Newest first."""
        return Listing[PowerOrderView].of(await service.history(principal, machine_id, page), order_view)

    @router.get("/orders/{order_id}")
    async def one(principal: CurrentPrincipal, machine_id: str, order_id: str) -> Envelope[PowerOrderView]:
        """How far it is."""
        return Envelope[PowerOrderView](data=order_view(await service.one(principal, machine_id, order_id)))

    @router.post("/orders/{order_id}/cancel")
    async def cancel(principal: CurrentPrincipal, machine_id: str, order_id: str) -> Envelope[PowerOrderView]:
        """Hold it back, before it is begun."""
        return Envelope[PowerOrderView](data=order_view(await service.cancel(principal, machine_id, order_id)))

    return router

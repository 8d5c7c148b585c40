"""The people of a world: customers who pay late and twice, technicians, and attackers.

Customers look at their balance every hour, by the auditor's books (the display would show the
same). Money nano-currency, times milliseconds of true time.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloud_sync.backend.database import transaction
from cloud_sync.orders import sign_order
from cloud_sync.session import Publish
from cloud_sync.voucher import voucher_for_typing
from cloud_sync.wire import Order, topic_of
from hw.sim.world.site import GATEWAY_ID, UNIT_NANO, House

if TYPE_CHECKING:
    from hw.sim.world.world import World

HOUR_MS = 3_600_000
LOOK_MS = HOUR_MS
BEFORE_SLOT_MS = 1_000  # where the world stops anyway
ORDER_VALID_S = 24 * 3600
ABOVE_LIMIT_NANO = 900 * UNIT_NANO


@dataclass(frozen=True, slots=True)
class Habit:
    """How a customer pays: chances per hour, and by which door."""

    when_low: float  # the balance is below two units
    when_cut: float
    by_voucher: float


HABITS: dict[str, Habit] = {
    "careful": Habit(when_low=0.25, when_cut=0.8, by_voucher=0.1),
    "late": Habit(when_low=0.005, when_cut=0.12, by_voucher=0.2),
    "forgetful": Habit(when_low=0.0, when_cut=0.03, by_voucher=0.0),
    "voucher": Habit(when_low=0.03, when_cut=0.3, by_voucher=1.0),
}


class People:
    """Everybody who does something on purpose."""

    def __init__(self, world: "World", chance: random.Random) -> None:
        self.world, self.chance = world, chance
        self.payments = 0
        self.cid_of: dict[str, str] = {}  # payment id -> cid
        self._made_ms: dict[str, int] = {}
        self._wallets: list[tuple[str, str]] = []  # vouchers bought and not accepted yet: payment id, text

    def begin(self) -> None:
        """The first hour is theirs to look around."""
        self.world.script.at(LOOK_MS - BEFORE_SLOT_MS, self._look)

    def _look(self) -> None:
        world = self.world
        if world.now_ms() < world.pay_until_ms:
            for house in world.houses:
                self._consider(house)
        if world.machine is not None and not world.machine.dead:
            for payment_id, text in list(self._wallets):
                self._enter(payment_id, text)
        world.script.at(world.now_ms() + LOOK_MS, self._look)

    def _consider(self, house: House) -> None:
        book, habit = self.world.auditor.books[house.account_id], HABITS[house.habit]
        if not book.opened:
            return
        low = book.live_most_nano(self.world.true_wh(house.account_id)) < 2 * UNIT_NANO
        chance = habit.when_cut if not book.contact_closed() else habit.when_low if low else 0.0
        if chance and self.chance.random() < chance:
            self.pay(house, self._amount(), by_voucher=self.chance.random() < habit.by_voucher)

    def _amount(self) -> int:
        if self.chance.random() < 0.02:
            return ABOVE_LIMIT_NANO
        return self.chance.randrange(100, 6_000) * UNIT_NANO // 100

    def pay(self, house: House, amount_nano: int, *, by_voucher: bool) -> None:
        """A customer pays somewhere: the cloud gets a credit order, he perhaps a voucher too."""
        world = self.world
        self.payments += 1
        payment_id = f"P{self.payments:05}"
        world.auditor.payment_made(payment_id, house.account_id, amount_nano)
        placed = world.cloud.backend.credit(GATEWAY_ID, house.meter_id, payment_id, amount_nano, world.clock.true_at())
        self.cid_of[payment_id] = placed.cid
        self._made_ms[payment_id] = world.now_ms()
        world.trace("paid", payment_id, house.account_id, amount_nano)
        envelope = world.cloud.backend.desk.envelope(placed.cid)
        assert envelope is not None
        world.broker.money[envelope] = (house.account_id, amount_nano, placed.cid)
        if by_voucher:
            self._wallets.append((payment_id, voucher_for_typing(envelope)))
            self._wallets = self._wallets[-20:]
        world.cloud.relay()

    def recent(self, end_ms: int) -> set[str]:
        """Payments made so late that nobody can ask for their answer yet."""
        return {payment_id for payment_id, at_ms in self._made_ms.items() if at_ms > end_ms - HOUR_MS}

    def _enter(self, payment_id: str, text: str) -> None:
        self.world.enter_voucher(payment_id, text)

    def voucher_settled(self, payment_id: str) -> None:
        """The console has answered: some try it once more all the same."""
        if self.chance.random() < 0.7:
            self._wallets = [entry for entry in self._wallets if entry[0] != payment_id]

    # --- technicians ---

    def order(self, house: House, order_type: str, keep: bool = True) -> None:
        """An operator's order about somebody's supply, signed as it should be."""
        world, desk = self.world, self.world.cloud.backend.desk
        at = world.clock.true_at()
        if order_type == "cut":
            cid = desk.cut(GATEWAY_ID, house.meter_id, at).cid
        elif order_type == "restore":
            cid = desk.restore(GATEWAY_ID, house.meter_id, at).cid
        else:
            cid = f"keep-{self.chance.getrandbits(64):016x}"
            with transaction(world.cloud.backend.database):
                sql = "SELECT coalesce(max(supply_version), 0) + 1 FROM command WHERE gateway = ? AND meter = ?"
                version = world.cloud.backend.database.execute(sql, (GATEWAY_ID, house.meter_id)).fetchone()[0]
                arguments = {"keep": keep}
                expires_at = at + ORDER_VALID_S
                desk._place(
                    "keep_supply", cid, GATEWAY_ID, house.meter_id, arguments, at, exp=expires_at, sv=int(version)
                )
        world.auditor.order_made(cid, house.account_id, order_type)
        world.trace("ordered", order_type, house.account_id)
        world.cloud.relay()

    # --- attackers ---

    def attack(self) -> None:
        """Somebody with the broker's password, but with none of our keys."""
        attacks: list[Callable[[], None]] = [self._replay, self._forge, self._spoil, self._forge_ack]
        self.chance.choice(attacks)()

    def _replay(self) -> None:
        recorded = self.world.broker.seen_down
        if recorded:
            self.world.sometimes.saw("replayed_order")
            topic, payload = self.chance.choice(recorded)
            self.world.broker.down(Publish(topic, payload, qos=1, retain=False))

    def _forge(self) -> None:
        """A well-formed order, signed by a key of his own under the name of one of ours."""
        house = self.chance.choice(self.world.houses)
        role, order_type = self.chance.choice((("vend", "credit"), ("ops", "cut"), ("ops", "restore")))
        is_credit = order_type == "credit"
        at = self.world.clock.true_at()
        order = Order(
            v=1,
            cid=f"forged-{self.chance.getrandbits(40):010x}",
            gw=GATEWAY_ID,
            meter=house.meter_id,
            type=order_type,
            args={"payment_id": "F1", "amount_nano": 100 * UNIT_NANO} if is_credit else {},
            nbf=at - 60,
            kid=f"{role}-1",
            exp=None if is_credit else at + ORDER_VALID_S,
            sv=None if is_credit else 1_000,
        )
        signer = next(entry for entry in self.world.strangers.values() if entry.kid == order.kid)
        self.world.sometimes.saw("forged_order")
        payload = sign_order(order, signer)
        self.world.broker.down(Publish(topic_of(GATEWAY_ID, "dn/cmd"), payload, qos=1, retain=False))

    def _spoil(self) -> None:
        """A recorded order with one bit changed."""
        commands = [payload for topic, payload in self.world.broker.seen_down if topic.endswith("dn/cmd")]
        if commands:
            payload = bytearray(self.chance.choice(commands))
            bit = self.chance.randrange(8 * len(payload))
            payload[bit // 8] ^= 1 << bit % 8
            topic = topic_of(GATEWAY_ID, "dn/cmd")
            self.world.broker.down(Publish(topic, bytes(payload), qos=1, retain=False))

    def _forge_ack(self) -> None:
        """Acknowledgements nobody made would let the gateway forget."""
        acks = [payload for topic, payload in self.world.broker.seen_down if topic.endswith("dn/ack")]
        if acks:
            payload = acks[-1].replace(b'"seq":', b'"seq":9')
            topic = topic_of(GATEWAY_ID, "dn/ack")
            self.world.broker.down(Publish(topic, payload, qos=1, retain=False))

//! A ring that stays as it is while its device is replaced by one that knows what the former had not finished.

use vuser::spec::ring::{EVENT_DISABLE, USED_F_NO_NOTIFY};
use vuser::spec::virtio::Features;

use crate::rig::{Fate, Rig, Shape, both, each};

#[test]
fn another_device_goes_on_behind_what_is_used_and_is_woken_first() {
    for (taken, left) in [(0, 0), (7, 0), (0, 5), (7, 5), (12, 8)] {
        both(|mut rig| {
            rig.hand.serve(taken);
            // A turn may give buffers back at once; here the queue owes some.
            match rig.is_rx() {
                true => rig.receive(64).into_iter().for_each(|m| rig.free(m)),
                false => assert_eq!(rig.cleanup(), taken),
            }
            rig.hand.look();
            rig.hand.serve(left);
            assert_eq!(rig.resume_base(), Some(rig.hand.base()));
            // The former device did not want to be woken, in all the ways there are.
            let packed = rig.hand.shape().packed();
            rig.hand.kick_words(if packed { EVENT_DISABLE } else { USED_F_NO_NOTIFY }, 0x7777);
            rig.resume();
            rig.kicked();
            match rig.is_rx() {
                // What was received is offered again by the next burst.
                true => rig.turn() + rig.turn(),
                false => rig.send_new(1, 1),
            };
            assert!(rig.kicked() || rig.is_rx() && taken + left == 0, "{taken} taken, {left} left: no kick");
            rig.hand.look();
            rig.verdict(Fate::Survive);
        });
    }
}

#[test]
fn a_device_that_lied_has_no_place_to_go_on_from() {
    both(|mut rig| {
        if rig.hand.shape().packed() {
            rig.hand.push(0xffff, 0, 1);
        } else {
            rig.hand.used_idx(21);
        }
        assert_eq!(rig.resume_base(), None);
        rig.hand.lent.clear();
        rig.end();
    });
}

#[test]
fn a_chain_used_twice_leaves_no_place_to_go_on_from() {
    each(32, |shape| {
        if !shape.packed() || shape.in_order() || shape.has(Features::INDIRECT_DESC) {
            return;
        }
        let mut rig = Rig::tx(shape, 64);
        assert_eq!((rig.send_new(1, 3), rig.send_new(1, 1)), (1, 1));
        rig.hand.look();
        let long = rig.hand.lent.pop_front().unwrap();
        rig.hand.push(long.id.into(), 0, long.slots);
        assert_eq!(rig.resume_base(), Some(rig.hand.base()));
        // Where the short one is: that makes six slots of the four that there are.
        rig.hand.push(long.id.into(), 0, long.slots);
        assert_eq!(rig.resume_base(), None);
        rig.hand.lent.clear();
        rig.end();
    });
}

#[test]
fn what_a_liar_had_is_for_the_next_device() {
    each(32, |shape| {
        if shape.packed() {
            return;
        }
        let mut rig = Rig::rx(shape, 20);
        rig.hand.serve(3);
        rig.hand.used_idx(21);
        rig.reconnect(shape, false);
        // Nobody has looked before it was gone: nothing of what it said is believed, and nobody is blamed for it.
        assert!(rig.receive(8).is_empty());
        assert_eq!((rig.board.lie(), rig.board.counters.packets.get()), (None, 0));
        rig.hand.look();
        assert_eq!(rig.hand.lent.len(), 20);
        rig.verdict(Fate::Survive);
    });
}

#[test]
fn buffers_that_the_next_ring_has_no_room_for_go_home() {
    each(32, |shape| {
        let mut rig = Rig::rx(shape, 20);
        rig.hand.serve(2);
        rig.reconnect(Shape { size: 16, ..shape }, false);
        rig.hand.look();
        assert_eq!((rig.hand.lent.len(), rig.receive(4).len()), (16, 2));
        rig.verdict(Fate::Survive);
    });
}

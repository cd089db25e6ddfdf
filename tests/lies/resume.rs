//! A ring that stays as it is while its device is replaced by one that knows what the former had not finished.

use vuser::spec::ring::{EVENT_DISABLE, USED_F_NO_NOTIFY};

use crate::rig::{Fate, both};

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

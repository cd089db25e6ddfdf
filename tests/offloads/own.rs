//! Queues whose buffers come from an allocator of the application's.

use std::sync::atomic::Ordering::Relaxed;

use vuser::mem::lanes::Simd;
use vuser::spec::net::NetHdr;
use vuser::spec::virtio::Features;

use super::allocator::Allocator;
use super::copies;
use super::lent::Lent;
use super::rig::{Fields, Plan, Rig, chained, frame, free, kinds, plain, pool};

fn rig(simd: Simd, features: Features, named: bool, linear: bool) -> Rig {
    let plan = Plan::new(simd, features);
    let pool = pool(plan.buffers, plan.data_size);
    Plan { allocator: Some(Allocator::new(pool, named, linear)), ..plan }.build()
}

#[test]
fn an_applications_allocator_serves_as_well_as_a_pool() {
    for (simd, features) in kinds() {
        for (named, linear) in [(true, true), (false, false)] {
            let mut rig = rig(simd, features, named, linear);
            rig.rx.refill();
            let frames: Vec<_> = (0..30).map(|n| frame(n, 60 + n)).collect();
            frames.iter().for_each(|frame| assert!(rig.arrive(NetHdr::default(), frame)));
            rig.publish();
            let mut got = Vec::new();
            for m in rig.receive(9) {
                got.push(Fields::of(m).bytes);
                free(m);
            }
            let lent = Lent::all(&mut rig, 7);
            rig.rx.release(7);
            got.extend(lent.into_iter().map(|l| l.bytes));
            got.extend(copies(&mut rig));
            assert_eq!(got, frames, "{features:?}, named {named}, linear {linear}");
            let data = frame(9, 500);
            let packets: Vec<_> = (0..11).map(|_| plain(&rig.pool, &data)).collect();
            let odd = [chained(&rig.pool, 128, &data, &[100, 400]), plain(&rig.other, &data)];
            for packets in [&packets[..], &odd] {
                assert!(rig.send(packets).iter().all(|s| s.frame == data && s.header == NetHdr::default()));
            }
            assert_eq!(rig.tx_stats().packets, 13);
            rig.finish();
        }
    }
}

#[test]
fn one_pool_at_a_time_is_the_home_of_plain_packets() {
    for layout in [Features::empty(), Features::RING_PACKED] {
        let mut rig = rig(Simd::Auto, Features::VERSION_1 | layout, false, false);
        let data = frame(1, 100);
        let asked = |rig: &Rig| rig.allocator.as_ref().unwrap().asked.load(Relaxed);
        let send = |rig: &mut Rig, other: bool| {
            let from = if other { &rig.other } else { &rig.pool };
            let packets: Vec<_> = (0..6).map(|_| plain(from, &data)).collect();
            assert_eq!(rig.tx.burst(&packets), 6);
        };
        send(&mut rig, false);
        assert_eq!(asked(&rig), 1);
        // Packets of the home are under way, and go back there all together: nobody is asked.
        send(&mut rig, true);
        assert_eq!((asked(&rig), rig.sent().len()), (1, 12));
        rig.tx.done_cleanup(100);
        send(&mut rig, true);
        assert_eq!((asked(&rig), rig.sent().len()), (2, 6));
        rig.tx.done_cleanup(100);
        // A pool that was refused is not asked about again, and its packets are sent all the same.
        rig.allocator.as_ref().unwrap().accepts.store(false, Relaxed);
        for _ in 0..2 {
            send(&mut rig, false);
            assert_eq!((asked(&rig), rig.sent().len()), (3, 6));
            rig.tx.done_cleanup(100);
        }
        assert_eq!(rig.tx_stats().packets, 30);
        rig.finish();
    }
}

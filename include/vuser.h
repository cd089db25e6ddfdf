// vuser: virtio-user as a library. Drives a virtio-net device whose other half is a vhost-user back-end.
//
// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
//
// Generated from the library's source; do not edit.
//
// CONVENTIONS
//
// Errors. A control call that can fail returns 0 (or a number it documents) or a negative errno, and leaves a
// sentence for vuser_last_error(). Bursts and packet calls return a count or a pointer and never fail otherwise.
// Outputs are written only on success.
//
// Ownership. What a call named _init, _create or _start makes is given up by the one named _uninit, _free or _stop.
// A packet belongs to whoever received or allocated it; to send it gives it away. Strings that are passed in are
// copied; strings that are returned stay the library's.
//
// Pointers. A pointer that is passed in is valid or NULL; control calls refuse NULL where they can't use it, bursts and
// packet calls take it only where they say so.
//
// Threads. Control calls of a device may come from any thread and take turns. A queue is used by one thread at a
// time. Control calls may come meanwhile: they pause the queue, whose bursts return 0 then; only vuser_dev_uninit, which takes
// queues away, must not. A pool may be used by any thread.
//
// Processes. In a child that was forked a device stays the parent's: control calls return -ECHILD, and nothing tells bursts,
// so that they must not be called there.
//
// Structs that begin with `size` can grow: set it to sizeof before the call. Numbers are in the machine's byte order,
// lengths in bytes.


#ifndef VUSER_H
#define VUSER_H

#include <stddef.h>
#include <stdint.h>

// Offload: the device computes TCP and UDP checksums.
#define VUSER_OFFLOAD_CSUM (UINT64_C(1) << 0)

// Offload: the device segments TCP.
#define VUSER_OFFLOAD_TSO (UINT64_C(1) << 1)

// Offload: the device segments UDP.
#define VUSER_OFFLOAD_USO (UINT64_C(1) << 2)

// Offload: received frames come with a verdict on their checksum, or only a part of it.
#define VUSER_OFFLOAD_RX_CSUM (UINT64_C(1) << 3)

// Offload: received TCP frames may be larger than the MTU.
#define VUSER_OFFLOAD_LRO (UINT64_C(1) << 4)

// Offload: received UDP frames may be several in one.
#define VUSER_OFFLOAD_RX_USO (UINT64_C(1) << 5)

// Offload: VLAN tags are taken out of received frames.
#define VUSER_OFFLOAD_VLAN_STRIP (UINT64_C(1) << 6)

// Offload: received frames come with a hash, the device's or, where it reports none, ours: see vuser_dev_set_rss.
#define VUSER_OFFLOAD_HASH (UINT64_C(1) << 7)

// Device status: we have noticed the device.
#define VUSER_STATUS_ACK 1

// Device status: we know how to drive it.
#define VUSER_STATUS_DRIVER 2

// Device status: it is live.
#define VUSER_STATUS_DRIVER_OK 4

// Device status: features are agreed.
#define VUSER_STATUS_FEATURES_OK 8

// Device status: it can go on only after a reset.
#define VUSER_STATUS_NEED_RESET 64

// Device status: it was given up.
#define VUSER_STATUS_FAILED 128

// Event: frames can come and go.
#define VUSER_EVENT_LINK_UP 1

// Event: frames can't come and go any more; the text says why.
#define VUSER_EVENT_LINK_DOWN 2

// Event: the back-end has gone and come back, or another has come in its place; the text says which.
#define VUSER_EVENT_RECONNECTED 3

// Event: a back-end was sent away; the text says why.
#define VUSER_EVENT_REFUSED 4

// Event: the configuration of the device is another: MAC, MTU, speed; see vuser_dev_get_info. The text says what. When
// a back-end comes back with a smaller MTU, the device goes on with that one: this tells it before the link is up again.
#define VUSER_EVENT_CONFIG 5

// Event: the back-end has found a ring that it can't go on with: `number` is 2 x pair for receive, 2 x pair + 1 for
// transmit.
#define VUSER_EVENT_QUEUE_ERROR 6

// Event: the device can go on only after a reset. Unless reconnect=0 it is reset and goes on, as with another back-end;
// otherwise stop it and start it.
#define VUSER_EVENT_NEEDS_RESET 7

// Event: the device asks that its address be announced to the network.
#define VUSER_EVENT_ANNOUNCE 8

// Event: events were lost, because nobody took them: `number` of them.
#define VUSER_EVENT_LOST 9

// Kind of feature: of the virtio device.
#define VUSER_FEATURE_VIRTIO 0

// Kind of feature: of the vhost-user protocol, between the back-end and this library.
#define VUSER_FEATURE_PROTOCOL 1

// Received: a VLAN tag is in vlan_tci.
#define VUSER_MBUF_F_RX_VLAN (UINT64_C(1) << 0)

// Received: a hash is in hash_rss.
#define VUSER_MBUF_F_RX_RSS_HASH (UINT64_C(1) << 1)

// Received: the transport checksum is wrong.
#define VUSER_MBUF_F_RX_L4_CKSUM_BAD (UINT64_C(1) << 3)

// Received: the VLAN tag was taken out of the frame.
#define VUSER_MBUF_F_RX_VLAN_STRIPPED (UINT64_C(1) << 6)

// Received: the transport checksum is right.
#define VUSER_MBUF_F_RX_L4_CKSUM_GOOD (UINT64_C(1) << 8)

// Received, both bits together: the data are right, but the checksum field is not filled in.
#define VUSER_MBUF_F_RX_L4_CKSUM_NONE ((UINT64_C(1) << 8) | (UINT64_C(1) << 3))

// Received: several segments of a connection in one frame; tso_segsz is their size.
#define VUSER_MBUF_F_RX_LRO (UINT64_C(1) << 16)

// To send: cut into UDP segments of tso_segsz.
#define VUSER_MBUF_F_TX_UDP_SEG (UINT64_C(1) << 42)

// To send: cut into TCP segments of tso_segsz.
#define VUSER_MBUF_F_TX_TCP_SEG (UINT64_C(1) << 50)

// To send: compute the TCP checksum.
#define VUSER_MBUF_F_TX_TCP_CKSUM (UINT64_C(1) << 52)

// To send: compute the UDP checksum.
#define VUSER_MBUF_F_TX_UDP_CKSUM (UINT64_C(3) << 52)

// To send: compute the IPv4 header's checksum (vuser_tx_prepare does it).
#define VUSER_MBUF_F_TX_IP_CKSUM (UINT64_C(1) << 54)

// To send: it is IPv4.
#define VUSER_MBUF_F_TX_IPV4 (UINT64_C(1) << 55)

// To send: it is IPv6.
#define VUSER_MBUF_F_TX_IPV6 (UINT64_C(1) << 56)

// To send: put the VLAN tag in vlan_tci into the frame.
#define VUSER_MBUF_F_TX_VLAN (UINT64_C(1) << 57)

// Hash type: addresses of IPv4.
#define VUSER_HASH_IPV4 (UINT64_C(1) << 0)

// Hash type: addresses and ports of TCP over IPv4.
#define VUSER_HASH_TCPV4 (UINT64_C(1) << 1)

// Hash type: addresses and ports of UDP over IPv4.
#define VUSER_HASH_UDPV4 (UINT64_C(1) << 2)

// Hash type: addresses of IPv6.
#define VUSER_HASH_IPV6 (UINT64_C(1) << 3)

// Hash type: addresses and ports of TCP over IPv6.
#define VUSER_HASH_TCPV6 (UINT64_C(1) << 4)

// Hash type: addresses and ports of UDP over IPv6.
#define VUSER_HASH_UDPV6 (UINT64_C(1) << 5)

// Hash type: addresses of IPv6 with extension headers: the home address, the final destination.
#define VUSER_HASH_IP_EX (UINT64_C(1) << 6)

// Hash type: the same, and the ports of TCP.
#define VUSER_HASH_TCP_EX (UINT64_C(1) << 7)

// Hash type: the same, and the ports of UDP.
#define VUSER_HASH_UDP_EX (UINT64_C(1) << 8)

// vuser_frame.flags: the frame goes on in the next one of the row.
#define VUSER_FRAME_MORE (UINT64_C(1) << 0)

// vuser_frame.flags: its checksum field holds only the pseudo-header's sum, but the data are good (rx_csum).
#define VUSER_FRAME_NEEDS_CSUM (UINT64_C(1) << 1)

// vuser_frame.flags: the device has seen that its checksum is right (rx_csum).
#define VUSER_FRAME_CSUM_GOOD (UINT64_C(1) << 2)

// vuser_frame.flags: it is several segments of one flow, longer than what a wire takes (lro, rx_uso).
#define VUSER_FRAME_LARGE (UINT64_C(1) << 3)

// A capture under way. Its calls may come from any thread.
struct vuser_capture;

// A virtio-user device. Its control calls may come from any thread; they take turns.
struct vuser_dev;

// A vhost-user back-end in a thread of this process, to try a front-end without a switch.
struct vuser_loopback;

// Packet buffers in memory that can be shared with a device. Any thread may use a pool.
struct vuser_pool;

// One receive or one transmit queue of a device, from its set-up until vuser_dev_uninit. One thread at a time uses
// it; control calls of the device may come from others meanwhile, all but vuser_dev_uninit.
struct vuser_queue;

// A struct of this header and how large the library believes it is.
struct vuser_abi_entry {
    // Its name, "vuser_config" for example.
    const char *name;
    // Its sizeof.
    size_t size;
};

// Receives a line of the log. Level: 1 error, 2 warning, 3 what happened, 4 each message to the back-end, 5 more.
// Called from whatever thread has something to say, and must not call back into the library.
typedef void (*vuser_log_fn)(int level, const char *message, void *ctx);

// What a device shall be. Fill it with vuser_config_init and then vuser_config_parse, or by hand. Switches are 0 or 1.
struct vuser_config {
    // sizeof(struct vuser_config), as given to vuser_config_init.
    size_t size;
    // Socket of the back-end; "/dev/vhost-net" or "/dev/vhost-vdpa-N" for one of the kernel's; "loopback" for the one that
    // is built in.
    char path[256];
    // With path=/dev/vhost-net: name of the kernel's interface, a tap, which is made if there is none. Empty: the kernel
    // chooses one.
    char iface[16];
    // MAC address, if has_mac; else the device's, else a random one.
    uint8_t mac[6];
    // Whether mac is set.
    uint8_t has_mac;
    // A control queue is wanted.
    uint8_t cq;
    // Listen, and let the back-end connect.
    uint8_t server;
    // Received frames may span several buffers. Default 1.
    uint8_t mrg_rxbuf;
    // Buffers may be used in order. Default 1.
    uint8_t in_order;
    // Packed rings are wanted. Default 0.
    uint8_t packed_vq;
    // Vector code is wanted.
    uint8_t vectorized;
    // Notification thresholds by ring index may be used. Default 1.
    uint8_t event_idx;
    // Tables of descriptors may be used. Default 1.
    uint8_t indirect;
    // Rings in huge pages when there are any. Default 1.
    uint8_t huge;
    // Count frames by length and by kind of address too, which reads a line of each.
    uint8_t stats;
    // Zero.
    uint8_t reserved;
    // Queue pairs, 1 to 128. Default 1.
    uint16_t queues;
    // Descriptors of each queue, to 32768; a power of two but for packed rings. Default 256.
    uint16_t queue_size;
    // Link speed to report in Mb/s; 0xffffffff unknown.
    uint32_t speed;
    // Longest wait for an answer of the back-end in milliseconds. Default 10000.
    uint32_t timeout_ms;
    // Offloads that are wanted, VUSER_OFFLOAD_*. Default 0.
    uint64_t offloads;
    // What the built-in back-end does: "echo" (also if empty), "sink" or "source".
    char mode[16];
    // Written to the field port of received packets. Default 0.
    uint16_t port;
    // The widest lanes that may be used: "auto" (also if empty: what the CPU has), "scalar", "avx2" or "avx512".
    char simd[16];
    // A back-end that has gone is looked for again, and the device goes on with it. Default 1.
    uint8_t reconnect;
    // Packets that a back-end that has gone was given, and did not mark used, are sent again to the next one; else they
    // are dropped and counted. Default 1.
    uint8_t resend;
    // The application looks after events, by vuser_dev_fd and vuser_dev_process, in place of a thread of the library's.
    // Default 0. As text: events=thread or events=manual.
    uint8_t events_manual;
    // With path=/dev/vhost-net: the kernel's interface stays when the device is closed. Default 0; one that was persistent
    // stays so.
    uint8_t persist;
    // Longest pause in milliseconds between two attempts to reach a back-end that has gone; the first is 10 ms.
    // Default 1000.
    uint32_t reconnect_ms;
    // With server: how long vuser_dev_init waits for the first back-end in milliseconds. Default 0, not at all.
    uint32_t server_wait_ms;
    // With server: permissions of the socket's file, 0660 for example (octal also as text). Default 0: what the umask
    // leaves.
    uint32_t socket_mode;
    // With path=/dev/vhost-net: for how many microseconds the kernel's threads look again before they sleep. Default 0.
    uint32_t busyloop_us;
    // MTU to be used, 68 or more; see vuser_dev_set_mtu. Default 0: the device's.
    uint16_t mtu;
    // With vhost-user: device addresses (the "guest addresses" of the protocol) begin near zero in place of being those of
    // the program, for back-ends with few address bits and for small logs. Bursts are slower then. Default 0.
    uint8_t compact;
    // Zero.
    uint8_t reserved3;
};

// What is known of a device.
struct vuser_dev_info {
    // sizeof(struct vuser_dev_info), to be set by the caller.
    size_t size;
    // Virtio features that the back-end offers.
    uint64_t device_features;
    // Virtio features in use, or, before the start, to be used.
    uint64_t features;
    // vhost-user protocol features in use.
    uint64_t protocol_features;
    // Queue pairs that the back-end has.
    uint16_t max_queue_pairs;
    // Queue pairs that the device was made with.
    uint16_t queue_pairs;
    // Descriptors of a queue whose set-up does not say otherwise.
    uint16_t queue_size;
    // MTU in use: what was chosen, else what the device has, else 1500.
    uint16_t mtu;
    // Bytes of the virtio header in front of each frame in a ring.
    uint16_t hdr_len;
    // MAC address.
    uint8_t mac[6];
    // Device status, VUSER_STATUS_*.
    uint8_t status;
    // Whether the device is started, its link was not set down, the back-end is there, and it does not say that its link
    // is down.
    uint8_t link_up;
    // Packed rings.
    uint8_t packed;
    // Buffers are used in order.
    uint8_t in_order;
    // Received frames may span buffers.
    uint8_t mergeable;
    // Link speed in Mb/s: what was configured, else what the device says; 0xffffffff unknown.
    uint32_t speed;
    // Kind of back-end and where it is.
    char backend[128];
    // Name of the data path: layout and lanes.
    char path[32];
    // Offloads in use or, before the start, to be used: VUSER_OFFLOAD_*.
    uint64_t offloads;
    // Offloads that the device makes possible.
    uint64_t offload_capa;
    // Queue pairs that are used, of queue_pairs: by the running device or from the next start on.
    uint16_t queue_pairs_used;
    // Whether a back-end is there.
    uint8_t attached;
    // Back-ends that came after another and were taken.
    uint64_t reconnects;
    // Back-ends that were sent away: they did not suit, or there was one already.
    uint64_t refused;
    // vhost-user protocol features that the back-end offers, or the last one did.
    uint64_t protocol_features_offered;
};

// What has happened to a device without being asked for.
struct vuser_event {
    // sizeof(struct vuser_event), to be set by the caller.
    size_t size;
    // What has happened, VUSER_EVENT_*.
    uint32_t kind;
    // Zero.
    uint32_t reserved;
    // A ring or how many, as the kind says; else 0.
    uint64_t number;
    // A sentence, may be empty.
    char text[256];
};

// A feature, and how it stands with it.
struct vuser_feature {
    // sizeof(struct vuser_feature), to be set by the caller.
    size_t size;
    // Whose, VUSER_FEATURE_*.
    uint32_t kind;
    // Its number: the feature is 1 << bit.
    uint32_t bit;
    // Its name, the standard's in small letters; "bit_48" for example if it has none.
    char name[32];
    // Whether the back-end offers it, or the last one did.
    uint8_t offered;
    // Whether it is used, or will be from the next start on.
    uint8_t used;
    // Whether this library can make use of it.
    uint8_t known;
    // Zero.
    uint8_t reserved;
    // A sentence: why it is not used although it is offered, or why it is not there although it is wanted. Else empty.
    char why[160];
};

// A packet buffer's descriptor, laid out as DPDK's `struct rte_mbuf`; 128 bytes, aligned to 64.
//
// A packet is a chain of them. Descriptors of a `vuser_pool` lie in private memory, only the data are shared with
// the device.
struct vuser_mbuf {
    // First byte of the buffer.
    void *buf_addr;
    // Not used here; DPDK's bus address.
    uint64_t buf_iova;
    // Where the data begin in the buffer.
    uint16_t data_off;
    // Owners of the buffer; access is atomic.
    uint16_t refcnt;
    // Segments of the packet (in the first of them).
    uint16_t nb_segs;
    // Port it came in by.
    uint16_t port;
    // Offload flags, VUSER_MBUF_F_*.
    uint64_t ol_flags;
    // What the packet is made of, as far as the device said it.
    uint32_t packet_type;
    // Bytes of the packet, all segments (in the first of them).
    uint32_t pkt_len;
    // Bytes of data in this segment.
    uint16_t data_len;
    // VLAN tag that was stripped or is to be inserted.
    uint16_t vlan_tci;
    // Hash of the packet, with VUSER_MBUF_F_RX_RSS_HASH.
    uint32_t hash_rss;
    // Not for the application.
    uint32_t hash_hi;
    // Not used here.
    uint16_t vlan_tci_outer;
    // Bytes of the buffer.
    uint16_t buf_len;
    // Pool the buffer belongs to.
    void *pool;
    // Next segment of the packet.
    struct vuser_mbuf *next;
    // For transmit offloads, from bit 0: l2_len 7 bits, l3_len 9, l4_len 8, tso_segsz 16, outer_l3_len 9,
    // outer_l2_len 7. See vuser_mbuf_set_tx_offload.
    uint64_t tx_offload;
    // Not for the application.
    void *shinfo;
    // Bytes of the application's private area.
    uint16_t priv_size;
    // Not used here.
    uint16_t timesync;
    // Not used here.
    uint32_t dynfield[9];
};

// What a pool is made of.
struct vuser_pool_config {
    // sizeof(struct vuser_pool_config).
    size_t size;
    // Buffers. 0 means 8192. Each queue keeps up to a ring of them, and up to 144 more near it: a pool for forwarding has
    // as many as all rings have descriptors, and 144 for each queue, and what the application holds.
    uint32_t count;
    // Bytes of a buffer, headroom and frame. 0 means 2176.
    uint16_t data_size;
    // Bytes in front of a received frame, for the application. The virtio header comes and goes in the last of them. 0
    // means 128.
    uint16_t headroom;
    // 1: ordinary pages even when there are huge pages free.
    uint8_t no_huge;
};

// An allocator of the application's, in place of a vuser_pool. Its functions are called for up to 64 buffers at a
// time from the thread that bursts, or, while that is kept out, from a control call or the thread that looks after events;
// they must not call back into the queue or the device. All buffers have one size, and lie in memory that was registered
// with vuser_mem_register.
struct vuser_mbuf_source {
    // sizeof(struct vuser_mbuf_source).
    size_t size;
    // Passed to the functions.
    void *ctx;
    // Gets n free buffers (refcnt 1, nb_segs 1, next NULL): 0, or non-zero and none.
    int (*get_bulk)(void *ctx, struct vuser_mbuf **mbufs, unsigned int n);
    // Takes n free buffers back.
    void (*put_bulk)(void *ctx, struct vuser_mbuf *const *mbufs, unsigned int n);
    // Gives one packet up, whatever it is: chained, shared, of another allocator.
    void (*free)(void *ctx, struct vuser_mbuf *m);
    // What the field `pool` of these buffers holds. Others are given to free.
    void *pool;
    // If not 0, a buffer begins at its descriptor's address times this, plus linear_add (modulo 2^64), and the
    // descriptor need not be read to know it. Below 2^32.
    uint64_t linear_mul;
    // See linear_mul.
    uint64_t linear_add;
    // Bytes of a buffer.
    uint16_t buf_len;
    // Bytes to keep in front of a received frame.
    uint16_t headroom;
    // Transmit only, may be NULL. With pool NULL the queue adapts to whatever pool packets come from: put_bulk is given
    // buffers that all have the same pool, and before the queue relies on one for the first time it asks here: non-zero
    // means that all of its buffers lie in memory that the device was told of.
    int (*accepts)(void *ctx, void *pool);
};

// A place in memory to sleep on, by UMWAIT for example, until the device uses something.
struct vuser_monitor {
    // sizeof(struct vuser_monitor), to be set by the caller.
    size_t size;
    // Where to look. The device writes there.
    const void *addr;
    // Bits of the value there that matter.
    uint64_t mask;
    // What to compare them with.
    uint64_t value;
    // Bytes of the value there.
    uint8_t bytes;
    // 1: nothing has been used as long as the value is this one; 0: as long as it is another.
    uint8_t while_equal;
};

// Counters of a queue since it was set up, or since vuser_queue_reset_stats. What a direction has not stays 0.
struct vuser_queue_stats {
    // sizeof(struct vuser_queue_stats), to be set by the caller.
    size_t size;
    // Frames received or sent.
    uint64_t packets;
    // Their bytes, without the virtio header.
    uint64_t bytes;
    // Times the device was woken.
    uint64_t kicks;
    // Receive: times no free buffer was there to offer.
    uint64_t no_buffer;
    // Receive, dropped: shorter than an Ethernet header.
    uint64_t runt;
    // Receive, dropped: the virtio header asks for what was not agreed, or points outside the frame; or, in
    // vuser_rx_burst_copy, the frame is longer than any can be.
    uint64_t bad_header;
    // Transmit: times the ring was full.
    uint64_t ring_full;
    // Transmit, dropped: shorter than an Ethernet header, or the segments do not add up.
    uint64_t bad_packet;
    // Transmit, dropped: asks for an offload that was not agreed, or its lengths are wrong for it.
    uint64_t bad_offload;
    // Transmit, dropped: outside the memory that the device was told of.
    uint64_t bad_address;
    // Transmit, dropped: more segments than fit.
    uint64_t too_many_segments;
    // Dropped because the device was stopped: offered and not used (transmit), half received.
    uint64_t lost;
    // Frames to a multicast address; counted only with the option stats=1, as all below.
    uint64_t multicast;
    // Frames to the broadcast address.
    uint64_t broadcast;
    // Frames by length: below 64, 64, 65 to 127, 128 to 255, 256 to 511, 512 to 1023, 1024 to 1518, above.
    uint64_t size_bins[8];
    // Transmit: packets sent once more, because the back-end went away before it said that it had sent them. They are not
    // counted again in packets and bytes. Always counted, as the next.
    uint64_t tx_resent;
    // Transmit, dropped when a back-end came back: not sent by the former one as far as it had said, and not to be sent once
    // more (resend=0) or not possible any more.
    uint64_t tx_dropped_on_reconnect;
};

// What is hashed of received frames, by Toeplitz, and where they go by it.
struct vuser_rss {
    // sizeof(struct vuser_rss).
    size_t size;
    // Frames that are hashed, and by which fields: VUSER_HASH_*. 0: none.
    uint32_t types;
    // Bytes of the key.
    uint16_t key_len;
    // Entries of the table, a power of two.
    uint16_t table_len;
    // The key, copied; NULL: Microsoft's of 40 bytes, which nearly everybody uses.
    const uint8_t *key;
    // Receive queue (pair) by hash modulo table_len, copied; NULL: evenly, where the device spreads frames.
    const uint16_t *table;
};

// What can be chosen in struct vuser_rss.
struct vuser_rss_limits {
    // sizeof(struct vuser_rss_limits), to be set by the caller.
    size_t size;
    // Hash types that can be had.
    uint32_t types;
    // Bytes of the longest key.
    uint16_t key_len;
    // Entries of the longest table. 0: the device does not spread frames by their hash.
    uint16_t table_len;
};

// What is to be captured, and where to. Zeroed but for size and path, it captures all of each frame.
struct vuser_capture_config {
    // sizeof(struct vuser_capture_config).
    size_t size;
    // The file, made or emptied, or a named pipe that has a reader (wireshark -k -i PIPE). Empty: fd is meant.
    char path[256];
    // With an empty path: a descriptor above 0 to be written to from where it stands, a file, pipe or socket. It is duplicated. With
    // a path: 0 or -1.
    int32_t fd;
    // Bytes that are kept of each frame; 0: all.
    uint32_t snaplen;
    // Frames of 1518 bytes of each queue for which there is room until they are written, at least; 0: 4096, or
    // 65536 in all if there are more than 16 queues. The memory is taken at once.
    uint32_t frames;
    // Zero.
    uint32_t reserved;
    // Bytes of the file; what would go beyond is dropped. 0: no limit.
    uint64_t max_bytes;
};

// What has come of a capture.
struct vuser_capture_stats {
    // sizeof(struct vuser_capture_stats), to be set by the caller.
    size_t size;
    // Frames that were copied out of bursts.
    uint64_t captured;
    // Frames that are missing: there was no room for a copy, or none in the file.
    uint64_t dropped;
    // Bytes that were kept of the frames that were copied.
    uint64_t bytes;
    // Frames in the file.
    uint64_t written;
    // Bytes of the file.
    uint64_t file_bytes;
    // 0, or what ended the capture, a negative errno.
    int32_t error;
    // 1: the file has as many bytes as it may have.
    uint8_t full;
    // Zero.
    uint8_t reserved[3];
    // What ended the capture, as a sentence; else empty.
    char why[128];
};

// A received frame, or a buffer's part of one, lent in place.
struct vuser_frame {
    // Its first byte.
    const void *data;
    // Bytes here.
    uint32_t len;
    // What is to be said of it, VUSER_FRAME_*, with its first part; 0: an ordinary frame, and all of it is here.
    uint32_t flags;
};

// What a back-end has counted.
struct vuser_loopback_stats {
    // sizeof(struct vuser_loopback_stats), to be set by the caller.
    size_t size;
    // Frames that front-ends sent.
    uint64_t received;
    // Frames that it gave to front-ends.
    uint64_t sent;
    // Frames that it dropped.
    uint64_t dropped;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The sentence of the last error of a control call in this thread: what was wrong and, where there is a cure, what
// to do. Never NULL; valid until the next control call of this thread that fails. Empty when nothing has failed.
const char *vuser_last_error(void);

// The version of the library, "0.1.0" for example.
const char *vuser_version(void);

// The sizes of all structs of this header, for bindings of other languages to compare with theirs. *count entries.
const struct vuser_abi_entry *vuser_abi(size_t *count);

// Sends the log, up to a level, to a function of the caller's; level 0 or NULL switches it off, which is the default.
// When it returns, the function set before is not running and will not be called any more.
int vuser_set_log(int level,
                  vuser_log_fn function,
                  void *ctx);

// Sets all fields to their defaults, which are those of DPDK's virtio-user. size is sizeof(struct vuser_config), so
// that a newer library does not write more than an older program has.
int vuser_config_init(struct vuser_config *config,
                      size_t size);

// Sets fields from text in the form of DPDK's device arguments: "path=/tmp/s,queues=2,packed_vq=1".
//
// DPDK's names: path, mac, cq, queues, queue_size, iface, server, mrg_rxbuf, in_order, packed_vq, vectorized, speed.
// Beyond them: event_idx, indirect, huge, stats, timeout_ms, mode, simd, server_wait_ms, socket_mode, reconnect,
// reconnect_ms, resend, events, persist, busyloop_us, mtu, compact, and the offloads csum, tso, uso, rx_csum, lro, rx_uso, vlan_strip,
// hash. Nothing is changed unless all is right. -EINVAL names what is not.
int vuser_config_parse(struct vuser_config *config,
                       const char *devargs);

// Makes a device: connects to the back-end, asks what it offers, and agrees on features as far as that goes without
// starting. *dev is the device, to be given up by vuser_dev_uninit.
//
// With server=1 it listens in place of connecting, and returns at once, or, with server_wait_ms, when the first
// back-end has come. Until then the device counts on one that can do all that the configuration asks for.
//
// A back-end that goes is looked for again (with server=1: may come again), unless reconnect=0. The device that was
// started goes on with it: what had come and was not received yet is received, buffers that were posted are posted again,
// and packets that the last one did not mark used are sent again, or dropped, as resend says. Meanwhile nothing is sent:
// vuser_tx_burst takes 0 packets. vuser_dev_process tells of all that.
//
// -EINVAL: the configuration can't be; -ENOENT, -ECONNREFUSED, -EACCES: no back-end there; -ENOTSUP: it can't do what
// is wanted; -ETIMEDOUT: it doesn't answer, or none came; -EPROTO: it answers nonsense; -EADDRINUSE: somebody listens at
// that path, or there is a file that is no socket. -EMFILE: each queue pair takes six
// descriptors and more, and the process may not have so many. With path=/dev/vhost-net: -EPERM, -EACCES: a permission is missing;
// -ENOENT: a module of the kernel's is; -EBUSY: somebody else has the interface. The sentence says what helps.
int vuser_dev_init(const struct vuser_config *config,
                   struct vuser_dev **dev);

// Stops the device, closes the connection and gives everything back. Its queues are gone too. NULL is allowed. A back-end
// that does not answer is waited for once, timeout_ms. In a child that was forked it does nothing: the device is the
// parent's.
void vuser_dev_uninit(struct vuser_dev *dev);

// Virtio features that the back-end offers.
uint64_t vuser_dev_device_features(const struct vuser_dev *dev);

// Virtio features in use or, before the start, to be used.
uint64_t vuser_dev_features(const struct vuser_dev *dev);

// Chooses virtio features, of those offered, for the next start. -EBUSY: the device is started; -EINVAL: the choice
// can't be.
int vuser_dev_set_features(struct vuser_dev *dev,
                           uint64_t features);

// Chooses offloads, VUSER_OFFLOAD_*, for the next start: those of offload_capa in vuser_dev_info can be. The features
// follow. -EBUSY: the device is started; -EINVAL: unknown bits; -ENOTSUP: the device does not make these possible,
// vuser_last_error names them.
int vuser_dev_set_offloads(struct vuser_dev *dev,
                           uint64_t offloads);

// Chooses how many queue pairs are used: 1 to the number that the device was made with, which is what a device begins
// with. Of a stopped device from the next start on; the back-end hears nothing of the others. Of a started device at once, up
// to the number that it was started with: the queues of pairs that are not used any more are stopped as by
// vuser_tx_queue_stop and vuser_rx_queue_stop, those of pairs that are used again are started. -EBUSY: the device was
// started with fewer; -ENOTSUP: the back-end's rings can't be disabled.
int vuser_dev_set_queue_pairs(struct vuser_dev *dev,
                              uint16_t pairs);

// Sets the device status: VUSER_STATUS_DRIVER_OK starts the device, 0 resets it.
int vuser_dev_set_status(struct vuser_dev *dev, uint8_t status);

// The device status, with what the back-end adds to it. 0 also for NULL.
uint8_t vuser_dev_get_status(const struct vuser_dev *dev);

// Starts the device: features, memory and rings are told to the back-end, and receive buffers are offered. At least one
// queue must have been set up; of the pairs that are used, a queue that was not is a ring that the back-end knows and
// that stays empty. Without a back-end the link is down, and all this is done when one comes. On an error the device is
// stopped, as before. -E2BIG: the memory has more regions than the back-end takes; -ENOTCONN: the back-end has gone, and
// with reconnect=0 it is not looked for.
int vuser_dev_start(struct vuser_dev *dev);

// Stops the device; all buffers come back to where they came from. Queues may be in use meanwhile: their bursts return 0
// from then on. It can be started again, with the same features and queues. An error is reported, but the device is stopped
// all the same.
int vuser_dev_stop(struct vuser_dev *dev);

// Stops the device and forgets the choice of features.
int vuser_dev_reset(struct vuser_dev *dev);

// What is known of the device; info->size must be set.
int vuser_dev_get_info(const struct vuser_dev *dev, struct vuser_dev_info *info);

// Sets the link up (1) or down (0). While it is down all rings are disabled: nothing is received, and what is sent
// waits in its ring or is discarded, as the back-end likes. Up again, the queues run that were not stopped. Queues may be
// in use meanwhile. Of a stopped device it is remembered. -ENOTSUP: the back-end's rings can't be disabled.
int vuser_dev_set_link(struct vuser_dev *dev,
                       int up);

// Whether the link is up: 1 when the device is started, its link was not set down, the back-end is there and did not say
// when it was last asked (at the start, by vuser_dev_get_info) that its link is down; else 0. Waits for nobody, not even
// for another control call.
int vuser_dev_link(const struct vuser_dev *dev);

// Starts a receive queue that was stopped. While the device is stopped: the queue shall run from the next start on,
// which is so for a queue that has just been set up.
int vuser_rx_queue_start(struct vuser_dev *dev,
                         uint16_t pair);

// Stops a receive queue of a running device: its bursts return 0 until vuser_rx_queue_start. Its ring keeps its
// buffers, and frames that came and were not received wait there. The device's next start starts it too. While the
// device is stopped: the queue shall not run at the next start, but wait for vuser_rx_queue_start. -ENOTSUP: the back-end's
// rings can't be disabled.
int vuser_rx_queue_stop(struct vuser_dev *dev,
                        uint16_t pair);

// As vuser_rx_queue_start, for a transmit queue.
int vuser_tx_queue_start(struct vuser_dev *dev, uint16_t pair);

// As vuser_rx_queue_stop, for a transmit queue. First the back-end is given 100 ms to send what the ring holds, and
// packets that it has sent go back to their pool; those that it has not stay with the ring.
int vuser_tx_queue_stop(struct vuser_dev *dev,
                        uint16_t pair);

// Gives memory of the application's to the device, so that packets in it can be sent and received: `len` bytes
// mapped at `addr`, from `offset` of the file `fd` (memfd, hugetlbfs or shm; the descriptor is duplicated). What is
// contiguous in memory and in one file is told to the back-end as one region.
//
// A running device is told at once, and queues may be in use meanwhile. A back-end that has memory slots goes on; of any
// other the rings are disabled for that moment, in which frames may be lost. On an error the former memory holds.
//
// -EBADF: such memory can't be shared, for example because it has no file; -EEXIST: it overlaps memory that is
// registered; -E2BIG: the running back-end takes fewer regions (a stopped device says that when it is started).
int vuser_mem_register(struct vuser_dev *dev,
                       int fd,
                       uint64_t offset,
                       size_t len,
                       void *addr);

// Takes memory away from the device that was registered at `addr`. A running device is told at once, as by
// vuser_mem_register; then no queue may hold a buffer of it any more. -ENOENT: none was registered there; -E2BIG: what
// it leaves has more regions than the back-end takes.
int vuser_mem_unregister(struct vuser_dev *dev,
                         void *addr);

// 1 when the device was told of all of these bytes, or will be at its next start; else 0. Waits for no control call, so
// that a buffer source may ask.
int vuser_mem_contains(const struct vuser_dev *dev,
                       const void *addr,
                       size_t len);

// A descriptor that is readable when vuser_dev_process has something to do or to tell. It stays the library's, and must
// not be read from; it is the same as long as the device lives.
int vuser_dev_fd(const struct vuser_dev *dev);

// Hands out what has happened, the oldest first: how many events were written, n at most, to `events`, of which the first
// has its size set. n 0 and events NULL are allowed.
//
// With events=manual it first does what a thread of the library's does otherwise: it notices a back-end that has gone,
// looks for it, takes one that has come, and goes on with it. It never waits for one to come; each exchange with one that
// has come takes timeout_ms at most. It is to be called when vuser_dev_fd is readable.
int vuser_dev_process(struct vuser_dev *dev,
                      struct vuser_event *events,
                      unsigned int n);

// Chooses the MTU: what vuser_dev_get_info says from then on, told to back-ends that want to know (vhost-user with NET_MTU;
// the interface of the kernel), now and whenever one comes. Frames are not measured. -EINVAL: it is below 68, or above what
// the device has; -EREMOTEIO: the back-end refused it.
int vuser_dev_set_mtu(struct vuser_dev *dev,
                      uint16_t mtu);

// Has the back-end tell the network that the device's MAC address is here now (vhost-user: SEND_RARP), as after a move or
// when VUSER_EVENT_ANNOUNCE asks for it. -ENOTSUP: it can't; send a gratuitous ARP yourself; -ENOTCONN: there is none.
int vuser_dev_announce(struct vuser_dev *dev);

// Has the back-end note which memory it writes, page by page, until vuser_dirty_log_stop: for whoever copies that memory
// elsewhere while the device runs. It goes on when the device is stopped and started, and when a back-end comes back.
// -ENOTSUP: the back-end keeps no log; -EALREADY: it keeps one; -ENOTCONN: there is no back-end.
int vuser_dirty_log_start(struct vuser_dev *dev);

// Says which pages of 4096 bytes of a range of memory the back-end has written since this was last asked: `bits` gets a
// bit for each page that the range touches, the first one in bit 0 of bits[0], and `size` bytes of it are written. How many
// were written to, INT_MAX at most. What is read is forgotten by the log: copy after reading, and read again.
// -ENODATA: no log is kept; -EINVAL: `bits` is too small.
int vuser_dirty_log_read(struct vuser_dev *dev,
                         const void *addr,
                         size_t len,
                         uint8_t *bits,
                         size_t size);

// Ends vuser_dirty_log_start. No error without a log.
int vuser_dirty_log_stop(struct vuser_dev *dev);

// One of the features that the back-end offers or that have a name: the virtio features, then the protocol features, each in
// the order of their bits; index counts from 0. feature->size must be set. With server=1, before a back-end has come, none is
// offered, and those are used that will be asked for. -ENOENT: there are no more.
int vuser_dev_feature(const struct vuser_dev *dev,
                      unsigned int index,
                      struct vuser_feature *feature);

// Chooses another MAC address, six bytes. A device that can be told is told, by its control queue (CTRL_MAC_ADDR) or as the
// back-end can, at once or when it is started; of any other the address is the application's alone, and the frames that
// come are what they were. -EINVAL: not a unicast address; -EREMOTEIO: the device refused it; -ETIMEDOUT: it doesn't answer.
int vuser_dev_set_mac(struct vuser_dev *dev,
                      const uint8_t *mac);

// Receives all frames (1), or only those for our addresses (0). A stopped device is told when it is started, and so is each
// back-end that comes later. -ENOTSUP: the device has no control queue with CTRL_RX, and decides for itself which frames it
// gives; -EREMOTEIO: it refused; -ETIMEDOUT: it doesn't answer.
int vuser_dev_set_promiscuous(struct vuser_dev *dev,
                              int on);

// Receives all multicast frames (1), or only those for our addresses (0). Otherwise as vuser_dev_set_promiscuous.
int vuser_dev_set_allmulticast(struct vuser_dev *dev,
                               int on);

// Receives also frames for these `n` addresses of six bytes each, one behind the other, unicast and multicast, and for no
// others that were given before. -E2BIG: more than 256. Otherwise as vuser_dev_set_promiscuous.
int vuser_dev_set_addresses(struct vuser_dev *dev,
                            const uint8_t *addresses,
                            uint16_t n);

// Receives frames of a VLAN, 0 to 4095, too (1), or no longer (0). A device that filters VLANs gives only those that were
// asked for; it becomes one by the first call of this while it is stopped. -ENOTSUP: the device can't filter VLANs, or does
// not as it was started; -EREMOTEIO: it refused; -ETIMEDOUT: it doesn't answer.
int vuser_dev_vlan_filter(struct vuser_dev *dev,
                          uint16_t vlan,
                          int on);

// Tells a device that had asked for it (VUSER_EVENT_ANNOUNCE) that its address has been announced to the network.
// -ENOTSUP: the device has no way to ask.
int vuser_dev_announced(struct vuser_dev *dev);

// Gets an empty buffer; NULL when the pool has none.
struct vuser_mbuf *vuser_mbuf_alloc(struct vuser_pool *pool);

// Gets n empty buffers, or none: -ENOMEM when the pool has fewer.
int vuser_mbuf_alloc_bulk(struct vuser_pool *pool, struct vuser_mbuf **mbufs, uint16_t n);

// Gives a packet up, with all its segments; each goes back to its pool. NULL is allowed.
void vuser_mbuf_free(struct vuser_mbuf *m);

// Gives n packets up. NULLs among them are allowed.
void vuser_mbuf_free_bulk(struct vuser_mbuf *const *mbufs, uint16_t n);

// A second packet that shares the data of the first; each is freed alone. NULL when the pool has too few buffers for
// its descriptors. Neither may write to the data then.
struct vuser_mbuf *vuser_mbuf_clone(struct vuser_pool *pool,
                                    struct vuser_mbuf *m);

// Address of the first byte of data of this segment.
void *vuser_mbuf_data(const struct vuser_mbuf *m);

// Makes room for len bytes behind the data of the packet's last segment; their address, or NULL when they don't fit.
void *vuser_mbuf_append(struct vuser_mbuf *m,
                        uint16_t len);

// Makes room for len bytes in front of the packet; their address, or NULL when the headroom is too small.
void *vuser_mbuf_prepend(struct vuser_mbuf *m, uint16_t len);

// Takes len bytes off the front of the packet's first segment; -EINVAL when it has fewer.
int vuser_mbuf_adj(struct vuser_mbuf *m, uint16_t len);

// Appends the segments of tail, which is no packet of its own after that, to head.
int vuser_mbuf_chain(struct vuser_mbuf *head, struct vuser_mbuf *tail);

// Sets the lengths that transmit offloads need: link, network and transport header, and the payload of a segment
// (0 when nothing is to be cut). -EINVAL when one is too long for its field.
int vuser_mbuf_set_tx_offload(struct vuser_mbuf *m,
                              uint16_t l2_len,
                              uint16_t l3_len,
                              uint16_t l4_len,
                              uint16_t tso_segsz);

// Makes a pool; NULL for the configuration means all defaults. *pool is to be given up by vuser_pool_free.
int vuser_pool_create(const struct vuser_pool_config *config, struct vuser_pool **pool);

// Gives a pool up. Its memory goes when the last device that uses it has gone; all its buffers must have come back by
// then. NULL is allowed.
void vuser_pool_free(struct vuser_pool *pool);

// Free buffers of the pool, not counting those that queues keep near: exact while nobody uses it, else a guess.
uint32_t vuser_pool_available(const struct vuser_pool *pool);

// Sets the receive queue of a pair up: its size (0: the configuration's) and where its buffers come from. Only while
// the device is stopped.
int vuser_rx_queue_setup(struct vuser_dev *dev,
                         uint16_t pair,
                         uint16_t size,
                         struct vuser_pool *pool);

// Sets the transmit queue of a pair up: its size (0: the configuration's) and the pool that most packets are of.
// Packets of other pools that queues of this device were set up with may be sent too, at a higher cost. Only while the
// device is stopped.
int vuser_tx_queue_setup(struct vuser_dev *dev,
                         uint16_t pair,
                         uint16_t size,
                         struct vuser_pool *pool);

// As vuser_rx_queue_setup, with an allocator of the application's.
int vuser_rx_queue_setup_source(struct vuser_dev *dev,
                                uint16_t pair,
                                uint16_t size,
                                const struct vuser_mbuf_source *source);

// As vuser_tx_queue_setup, with an allocator of the application's.
int vuser_tx_queue_setup_source(struct vuser_dev *dev,
                                uint16_t pair,
                                uint16_t size,
                                const struct vuser_mbuf_source *source);

// The receive queue of a pair; NULL if it has not been set up.
struct vuser_queue *vuser_rx_queue(const struct vuser_dev *dev, uint16_t pair);

// The transmit queue of a pair; NULL if it has not been set up.
struct vuser_queue *vuser_tx_queue(const struct vuser_dev *dev, uint16_t pair);

// Receives up to n frames into mbufs, and returns how many. They belong to the caller. Never waits. 0 also when the
// device is stopped or the queue is broken: see vuser_queue_status.
uint16_t vuser_rx_burst(struct vuser_queue *queue,
                        struct vuser_mbuf **mbufs,
                        uint16_t n);

// Sends up to n packets, from the first on, and returns how many were taken. Those belong to the queue; the others
// stay the caller's, who may try again while vuser_queue_status is 0. A packet that can't be sent at all counts as taken: it is freed, and counted
// by its reason in the statistics. Never waits.
uint16_t vuser_tx_burst(struct vuser_queue *queue,
                        struct vuser_mbuf **mbufs,
                        uint16_t n);

// Prepares packets for the offloads that they ask for: puts the pseudo-header's sum where the device expects it, and
// computes IPv4 header checksums. Returns how many, from the first on, can be sent; the one after them can't. The
// headers must lie in the first segment, which must not be shared.
uint16_t vuser_tx_prepare(struct vuser_queue *queue,
                          struct vuser_mbuf **mbufs,
                          uint16_t n);

// Gives packets that have been sent back to their pool now, up to about n of them, and returns how many. Otherwise
// that happens when half the ring is in use.
uint16_t vuser_tx_done_cleanup(struct vuser_queue *queue,
                               uint16_t n);

// 0 when the queue works; -ENETDOWN when the device or the queue is stopped; -EIO when the back-end broke the queue's rules, and
// only a stop or reset of the device mends it. From any thread.
int vuser_queue_status(const struct vuser_queue *queue);

// The eventfd by which the device calls, to be watched for reading (poll, epoll, an event loop). It stays the
// queue's.
int vuser_queue_fd(const struct vuser_queue *queue);

// With on = 1, asks the device to call when there is the next frame to receive (or the next one was sent): one call,
// then it must be asked again. Returns 1 when there is work already, so that the caller must not wait but burst; 0 when
// it may wait. With on = 0, asks it not to call, which is how a device starts. -ENETDOWN, -EIO: see vuser_queue_status.
int vuser_queue_call(struct vuser_queue *queue,
                     int on);

// Waits until there may be work for the queue, at most so many milliseconds: 1 when there may be, 0 when not.
// -ENETDOWN, -EIO: see vuser_queue_status.
int vuser_queue_wait(struct vuser_queue *queue, unsigned int timeout_ms);

// Descriptors that the device has used and the queue has not taken: of a receive queue, buffers in which frames wait.
// The queue must not be in use meanwhile. -ENETDOWN, -EIO: see vuser_queue_status.
int vuser_queue_count(struct vuser_queue *queue);

// What the descriptor is doing that is `offset` places from the next one: to be received (a receive queue) or to be
// sent (a transmit queue). 0: it is with the device; 1: the device is done with it, or, of a transmit queue, it is free;
// 2: there is no buffer in it. The queue must not be
// in use meanwhile. -EINVAL: the ring is shorter; -ENETDOWN, -EIO: see vuser_queue_status.
int vuser_queue_descriptor_status(struct vuser_queue *queue,
                                  uint16_t offset);

// Where to look for the next buffer that the device uses; monitor->size must be set. It holds until the next burst. The
// queue must not be in use meanwhile. -ENETDOWN, -EIO: see vuser_queue_status.
int vuser_queue_monitor(struct vuser_queue *queue,
                        struct vuser_monitor *monitor);

// The counters of a queue; stats->size must be set. From any thread.
int vuser_queue_get_stats(const struct vuser_queue *queue, struct vuser_queue_stats *stats);

// Sets the counters of a queue to zero. From any thread.
int vuser_queue_reset_stats(struct vuser_queue *queue);

// Chooses what is hashed of received frames and, where the device can spread them over the receive queues by it, how. Now,
// and after each start. With VUSER_OFFLOAD_HASH a device that reports hashes computes them; for any other we do, in the
// burst. -ENOTSUP: what vuser_dev_rss_limits says can't be had, or a device that reports hashes can't be told by which key;
// -EINVAL: a queue in the table is not in use; -EREMOTEIO: the device refused it.
int vuser_dev_set_rss(struct vuser_dev *dev,
                      const struct vuser_rss *rss);

// What can be chosen with vuser_dev_set_rss; limits->size must be set. -ENOTSUP: nothing, since the device hashes by a key of
// its own.
int vuser_dev_rss_limits(struct vuser_dev *dev,
                         struct vuser_rss_limits *limits);

// Captures the frames of all queues that are set up, from now on, whether the device is started or not: those that are received
// as they are handed out, those that are sent as they were given, as soon as they are taken (also one that turns out not to be
// possible to send). Bursts copy them and never wait; a thread of the library's writes them, in the order of their times as long as
// it keeps up, and what it cannot write in time is dropped and counted. The file is pcapng: an interface for each queue, named rx0, tx0, rx1, ..., with
// nanoseconds, directions, and statistics at its end. Without a capture, bursts do nothing for one. It goes on with another
// back-end; packets that are sent to that once more are not captured again. *capture is to be given up by vuser_capture_stop.
// -EBUSY: there is a capture of this device; -EINVAL: no queue is set up, or the configuration can't be; errors of opening and
// writing the file.
int vuser_capture_start(struct vuser_dev *dev,
                        const struct vuser_capture_config *config,
                        struct vuser_capture **capture);

// What has come of a capture so far; stats->size must be set. -ECHILD: in a child that was forked.
int vuser_capture_get_stats(const struct vuser_capture *capture, struct vuser_capture_stats *stats);

// Stops a capture, before or after vuser_dev_uninit, and gives it up whatever is returned: 0 when all that was captured is in the
// file, or when that is full. Else what ended it; the file ends with a whole frame then, unless it is a pipe or a socket. What is
// still to be written is waited for, 5 s at most: -ETIMEDOUT. NULL is allowed. -ECHILD: in a child that was forked; the capture is
// the parent's.
int vuser_capture_stop(struct vuser_capture *capture);

// Receives up to n frames by copying them into the caller's memory, one behind the other from data on, at most size
// bytes (what is above 4 GiB is not used), and returns how many. offsets[i] says where the i-th frame begins and
// lengths[i] how many bytes it has; both have n places. A frame that does not fit any more stays the next to be
// received; 65550 bytes are enough for any, and a longer one is dropped and counted when there are so many. VLAN tags
// stay in frames. A checksum that the device left to be done (rx_csum) is finished in the copy, so that every frame is right
// by itself. Never waits. 0 also when the device is stopped or the queue is broken: see
// vuser_queue_status. It may take turns with vuser_rx_burst.
uint16_t vuser_rx_burst_copy(struct vuser_queue *queue,
                             void *data,
                             size_t size,
                             uint32_t *offsets,
                             uint32_t *lengths,
                             uint16_t n);

// Sends up to n frames by copying them out of the caller's memory: the i-th begins offsets[i] bytes behind data and
// has lengths[i] bytes. Returns how many were taken, from the first on; the caller may try again with the others
// while vuser_queue_status is 0. A frame that can't be sent at all counts as taken, and is counted in the statistics:
// as bad_packet if it does not lie within size bytes from data on, or is longer than 65550. The memory is the caller's again at once: the
// queue copies into buffers of the pool that it was set up with, and counts in no_buffer when there is none. Never waits. It may take turns with vuser_tx_burst.
uint16_t vuser_tx_burst_copy(struct vuser_queue *queue,
                             const void *data,
                             size_t size,
                             const uint32_t *offsets,
                             const uint32_t *lengths,
                             uint16_t n);

// Lends what is to be received next, in place, and returns in how many buffers: up to n of them are told, in order,
// and stay the queue's. Nothing is allocated, copied or freed. Frames are told in whole; only one of more than n buffers
// is told in parts. What was lent before and not given back is told again, with what has come since.
//
// The data are to be read only, and until they are given back. They are memory that the back-end can write: it is not to
// touch them any more, but one that does changes them under the reader, so that what is checked and then used is
// to be copied first. VLAN tags are left in, no hashes are computed.
//
// A burst receives what is lent as well; what was lent before must not be looked at after one. Where the device is stopped or
// reset, or another back-end comes, by another thread meanwhile, the memory stays mapped as long as its pool, but its buffers
// may be in use for other things; a frame that was not given back then is told again, or counted as lost.
//
// Never waits. 0 also when the device is stopped or the queue is broken: see vuser_queue_status.
uint16_t vuser_rx_peek(struct vuser_queue *queue,
                       struct vuser_frame *frames,
                       uint16_t n);

// Gives the first n buffers that are lent back to the device, which receives into them again: they are posted by the same
// descriptors, without going through any pool. Their frames count as received. Where so many are not lent any more, because
// of a burst or a reset, no others are given back. If n ends inside of a frame, the next peek, or burst, begins with what
// is left of it, however short that is.
void vuser_rx_release(struct vuser_queue *queue,
                      uint16_t n);

// Starts a back-end that listens: "path=/tmp/s" and, if wanted, mode=echo|sink|source, queues, mac, mtu, and frame,
// the length of frames that it makes. It serves one front-end after another until vuser_loopback_stop.
int vuser_loopback_start(const char *args,
                         struct vuser_loopback **loopback);

// Ends the back-end; its socket goes too. NULL is allowed.
void vuser_loopback_stop(struct vuser_loopback *loopback);

// The counters of a back-end; stats->size must be set.
int vuser_loopback_get_stats(const struct vuser_loopback *loopback, struct vuser_loopback_stats *stats);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* VUSER_H */

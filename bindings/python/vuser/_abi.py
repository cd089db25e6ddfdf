# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
# Made from include/vuser.h by scripts/python_abi.py; do not edit.
"""The C interface as it stands in vuser.h: numbers, structs, and the prototype of each function.

Pointers are addresses (c_void_p), strings are c_char_p.
"""

from __future__ import annotations

import ctypes
from ctypes import c_char, c_char_p, c_int, c_int32, c_size_t, c_uint, c_uint16, c_uint32, c_uint64, c_uint8, c_void_p
from typing import Any

VUSER_OFFLOAD_CSUM = 0x1
VUSER_OFFLOAD_TSO = 0x2
VUSER_OFFLOAD_USO = 0x4
VUSER_OFFLOAD_RX_CSUM = 0x8
VUSER_OFFLOAD_LRO = 0x10
VUSER_OFFLOAD_RX_USO = 0x20
VUSER_OFFLOAD_VLAN_STRIP = 0x40
VUSER_OFFLOAD_HASH = 0x80
VUSER_STATUS_ACK = 0x1
VUSER_STATUS_DRIVER = 0x2
VUSER_STATUS_DRIVER_OK = 0x4
VUSER_STATUS_FEATURES_OK = 0x8
VUSER_STATUS_NEED_RESET = 0x40
VUSER_STATUS_FAILED = 0x80
VUSER_EVENT_LINK_UP = 0x1
VUSER_EVENT_LINK_DOWN = 0x2
VUSER_EVENT_RECONNECTED = 0x3
VUSER_EVENT_REFUSED = 0x4
VUSER_EVENT_CONFIG = 0x5
VUSER_EVENT_QUEUE_ERROR = 0x6
VUSER_EVENT_NEEDS_RESET = 0x7
VUSER_EVENT_ANNOUNCE = 0x8
VUSER_EVENT_LOST = 0x9
VUSER_FEATURE_VIRTIO = 0x0
VUSER_FEATURE_PROTOCOL = 0x1
VUSER_MBUF_F_RX_VLAN = 0x1
VUSER_MBUF_F_RX_RSS_HASH = 0x2
VUSER_MBUF_F_RX_L4_CKSUM_BAD = 0x8
VUSER_MBUF_F_RX_VLAN_STRIPPED = 0x40
VUSER_MBUF_F_RX_L4_CKSUM_GOOD = 0x100
VUSER_MBUF_F_RX_L4_CKSUM_NONE = 0x108
VUSER_MBUF_F_RX_LRO = 0x10000
VUSER_MBUF_F_TX_UDP_SEG = 0x40000000000
VUSER_MBUF_F_TX_TCP_SEG = 0x4000000000000
VUSER_MBUF_F_TX_TCP_CKSUM = 0x10000000000000
VUSER_MBUF_F_TX_UDP_CKSUM = 0x30000000000000
VUSER_MBUF_F_TX_IP_CKSUM = 0x40000000000000
VUSER_MBUF_F_TX_IPV4 = 0x80000000000000
VUSER_MBUF_F_TX_IPV6 = 0x100000000000000
VUSER_MBUF_F_TX_VLAN = 0x200000000000000
VUSER_HASH_IPV4 = 0x1
VUSER_HASH_TCPV4 = 0x2
VUSER_HASH_UDPV4 = 0x4
VUSER_HASH_IPV6 = 0x8
VUSER_HASH_TCPV6 = 0x10
VUSER_HASH_UDPV6 = 0x20
VUSER_HASH_IP_EX = 0x40
VUSER_HASH_TCP_EX = 0x80
VUSER_HASH_UDP_EX = 0x100
VUSER_FRAME_MORE = 0x1
VUSER_FRAME_NEEDS_CSUM = 0x2
VUSER_FRAME_CSUM_GOOD = 0x4
VUSER_FRAME_LARGE = 0x8

vuser_log_fn = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)


class vuser_abi_entry(ctypes.Structure):  # noqa: N801
    _fields_ = [
        ("name", c_char_p),
        ("size", c_size_t),
    ]


class vuser_config(ctypes.Structure):  # noqa: N801
    _fields_ = [
        ("size", c_size_t),
        ("path", c_char * 256),
        ("iface", c_char * 16),
        ("mac", c_uint8 * 6),
        ("has_mac", c_uint8),
        ("cq", c_uint8),
        ("server", c_uint8),
        ("mrg_rxbuf", c_uint8),
        ("in_order", c_uint8),
        ("packed_vq", c_uint8),
        ("vectorized", c_uint8),
        ("event_idx", c_uint8),
        ("indirect", c_uint8),
        ("huge", c_uint8),
        ("stats", c_uint8),
        ("reserved", c_uint8),
        ("queues", c_uint16),
        ("queue_size", c_uint16),
        ("speed", c_uint32),
        ("timeout_ms", c_uint32),
        ("offloads", c_uint64),
        ("mode", c_char * 16),
        ("port", c_uint16),
        ("simd", c_char * 16),
        ("reconnect", c_uint8),
        ("resend", c_uint8),
        ("events_manual", c_uint8),
        ("persist", c_uint8),
        ("reconnect_ms", c_uint32),
        ("server_wait_ms", c_uint32),
        ("socket_mode", c_uint32),
        ("busyloop_us", c_uint32),
        ("mtu", c_uint16),
        ("compact", c_uint8),
        ("reserved3", c_uint8),
    ]


class vuser_dev_info(ctypes.Structure):  # noqa: N801
    _fields_ = [
        ("size", c_size_t),
        ("device_features", c_uint64),
        ("features", c_uint64),
        ("protocol_features", c_uint64),
        ("max_queue_pairs", c_uint16),
        ("queue_pairs", c_uint16),
        ("queue_size", c_uint16),
        ("mtu", c_uint16),
        ("hdr_len", c_uint16),
        ("mac", c_uint8 * 6),
        ("status", c_uint8),
        ("link_up", c_uint8),
        ("packed", c_uint8),
        ("in_order", c_uint8),
        ("mergeable", c_uint8),
        ("speed", c_uint32),
        ("backend", c_char * 128),
        ("path", c_char * 32),
        ("offloads", c_uint64),
        ("offload_capa", c_uint64),
        ("queue_pairs_used", c_uint16),
        ("attached", c_uint8),
        ("reconnects", c_uint64),
        ("refused", c_uint64),
        ("protocol_features_offered", c_uint64),
    ]


class vuser_event(ctypes.Structure):  # noqa: N801
    _fields_ = [
        ("size", c_size_t),
        ("kind", c_uint32),
        ("reserved", c_uint32),
        ("number", c_uint64),
        ("text", c_char * 256),
    ]


class vuser_feature(ctypes.Structure):  # noqa: N801
    _fields_ = [
        ("size", c_size_t),
        ("kind", c_uint32),
        ("bit", c_uint32),
        ("name", c_char * 32),
        ("offered", c_uint8),
        ("used", c_uint8),
        ("known", c_uint8),
        ("reserved", c_uint8),
        ("why", c_char * 160),
    ]


class vuser_mbuf(ctypes.Structure):  # noqa: N801
    _fields_ = [
        ("buf_addr", c_void_p),
        ("buf_iova", c_uint64),
        ("data_off", c_uint16),
        ("refcnt", c_uint16),
        ("nb_segs", c_uint16),
        ("port", c_uint16),
        ("ol_flags", c_uint64),
        ("packet_type", c_uint32),
        ("pkt_len", c_uint32),
        ("data_len", c_uint16),
        ("vlan_tci", c_uint16),
        ("hash_rss", c_uint32),
        ("hash_hi", c_uint32),
        ("vlan_tci_outer", c_uint16),
        ("buf_len", c_uint16),
        ("pool", c_void_p),
        ("next", c_void_p),
        ("tx_offload", c_uint64),
        ("shinfo", c_void_p),
        ("priv_size", c_uint16),
        ("timesync", c_uint16),
        ("dynfield", c_uint32 * 9),
    ]


class vuser_pool_config(ctypes.Structure):  # noqa: N801
    _fields_ = [
        ("size", c_size_t),
        ("count", c_uint32),
        ("data_size", c_uint16),
        ("headroom", c_uint16),
        ("no_huge", c_uint8),
    ]


class vuser_mbuf_source(ctypes.Structure):  # noqa: N801
    _fields_ = [
        ("size", c_size_t),
        ("ctx", c_void_p),
        ("get_bulk", c_void_p),
        ("put_bulk", c_void_p),
        ("free", c_void_p),
        ("pool", c_void_p),
        ("linear_mul", c_uint64),
        ("linear_add", c_uint64),
        ("buf_len", c_uint16),
        ("headroom", c_uint16),
        ("accepts", c_void_p),
    ]


class vuser_monitor(ctypes.Structure):  # noqa: N801
    _fields_ = [
        ("size", c_size_t),
        ("addr", c_void_p),
        ("mask", c_uint64),
        ("value", c_uint64),
        ("bytes", c_uint8),
        ("while_equal", c_uint8),
    ]


class vuser_queue_stats(ctypes.Structure):  # noqa: N801
    _fields_ = [
        ("size", c_size_t),
        ("packets", c_uint64),
        ("bytes", c_uint64),
        ("kicks", c_uint64),
        ("no_buffer", c_uint64),
        ("runt", c_uint64),
        ("bad_header", c_uint64),
        ("ring_full", c_uint64),
        ("bad_packet", c_uint64),
        ("bad_offload", c_uint64),
        ("bad_address", c_uint64),
        ("too_many_segments", c_uint64),
        ("lost", c_uint64),
        ("multicast", c_uint64),
        ("broadcast", c_uint64),
        ("size_bins", c_uint64 * 8),
        ("tx_resent", c_uint64),
        ("tx_dropped_on_reconnect", c_uint64),
    ]


class vuser_rss(ctypes.Structure):  # noqa: N801
    _fields_ = [
        ("size", c_size_t),
        ("types", c_uint32),
        ("key_len", c_uint16),
        ("table_len", c_uint16),
        ("key", c_void_p),
        ("table", c_void_p),
    ]


class vuser_rss_limits(ctypes.Structure):  # noqa: N801
    _fields_ = [
        ("size", c_size_t),
        ("types", c_uint32),
        ("key_len", c_uint16),
        ("table_len", c_uint16),
    ]


class vuser_capture_config(ctypes.Structure):  # noqa: N801
    _fields_ = [
        ("size", c_size_t),
        ("path", c_char * 256),
        ("fd", c_int32),
        ("snaplen", c_uint32),
        ("frames", c_uint32),
        ("reserved", c_uint32),
        ("max_bytes", c_uint64),
    ]


class vuser_capture_stats(ctypes.Structure):  # noqa: N801
    _fields_ = [
        ("size", c_size_t),
        ("captured", c_uint64),
        ("dropped", c_uint64),
        ("bytes", c_uint64),
        ("written", c_uint64),
        ("file_bytes", c_uint64),
        ("error", c_int32),
        ("full", c_uint8),
        ("reserved", c_uint8 * 3),
        ("why", c_char * 128),
    ]


class vuser_frame(ctypes.Structure):  # noqa: N801
    _fields_ = [
        ("data", c_void_p),
        ("len", c_uint32),
        ("flags", c_uint32),
    ]


class vuser_loopback_stats(ctypes.Structure):  # noqa: N801
    _fields_ = [
        ("size", c_size_t),
        ("received", c_uint64),
        ("sent", c_uint64),
        ("dropped", c_uint64),
    ]


STRUCTS: dict[str, type[ctypes.Structure]] = {
    "vuser_abi_entry": vuser_abi_entry,
    "vuser_config": vuser_config,
    "vuser_dev_info": vuser_dev_info,
    "vuser_event": vuser_event,
    "vuser_feature": vuser_feature,
    "vuser_mbuf": vuser_mbuf,
    "vuser_pool_config": vuser_pool_config,
    "vuser_mbuf_source": vuser_mbuf_source,
    "vuser_monitor": vuser_monitor,
    "vuser_queue_stats": vuser_queue_stats,
    "vuser_rss": vuser_rss,
    "vuser_rss_limits": vuser_rss_limits,
    "vuser_capture_config": vuser_capture_config,
    "vuser_capture_stats": vuser_capture_stats,
    "vuser_frame": vuser_frame,
    "vuser_loopback_stats": vuser_loopback_stats,
}

# What each function returns, and takes.
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "vuser_last_error": (c_char_p, []),
    "vuser_version": (c_char_p, []),
    "vuser_abi": (c_void_p, [c_void_p]),
    "vuser_set_log": (c_int, [c_int, vuser_log_fn, c_void_p]),
    "vuser_config_init": (c_int, [c_void_p, c_size_t]),
    "vuser_config_parse": (c_int, [c_void_p, c_char_p]),
    "vuser_dev_init": (c_int, [c_void_p, c_void_p]),
    "vuser_dev_uninit": (None, [c_void_p]),
    "vuser_dev_device_features": (c_uint64, [c_void_p]),
    "vuser_dev_features": (c_uint64, [c_void_p]),
    "vuser_dev_set_features": (c_int, [c_void_p, c_uint64]),
    "vuser_dev_set_offloads": (c_int, [c_void_p, c_uint64]),
    "vuser_dev_set_queue_pairs": (c_int, [c_void_p, c_uint16]),
    "vuser_dev_set_status": (c_int, [c_void_p, c_uint8]),
    "vuser_dev_get_status": (c_uint8, [c_void_p]),
    "vuser_dev_start": (c_int, [c_void_p]),
    "vuser_dev_stop": (c_int, [c_void_p]),
    "vuser_dev_reset": (c_int, [c_void_p]),
    "vuser_dev_get_info": (c_int, [c_void_p, c_void_p]),
    "vuser_dev_set_link": (c_int, [c_void_p, c_int]),
    "vuser_dev_link": (c_int, [c_void_p]),
    "vuser_rx_queue_start": (c_int, [c_void_p, c_uint16]),
    "vuser_rx_queue_stop": (c_int, [c_void_p, c_uint16]),
    "vuser_tx_queue_start": (c_int, [c_void_p, c_uint16]),
    "vuser_tx_queue_stop": (c_int, [c_void_p, c_uint16]),
    "vuser_mem_register": (c_int, [c_void_p, c_int, c_uint64, c_size_t, c_void_p]),
    "vuser_mem_unregister": (c_int, [c_void_p, c_void_p]),
    "vuser_mem_contains": (c_int, [c_void_p, c_void_p, c_size_t]),
    "vuser_dev_fd": (c_int, [c_void_p]),
    "vuser_dev_process": (c_int, [c_void_p, c_void_p, c_uint]),
    "vuser_dev_set_mtu": (c_int, [c_void_p, c_uint16]),
    "vuser_dev_announce": (c_int, [c_void_p]),
    "vuser_dirty_log_start": (c_int, [c_void_p]),
    "vuser_dirty_log_read": (c_int, [c_void_p, c_void_p, c_size_t, c_void_p, c_size_t]),
    "vuser_dirty_log_stop": (c_int, [c_void_p]),
    "vuser_dev_feature": (c_int, [c_void_p, c_uint, c_void_p]),
    "vuser_dev_set_mac": (c_int, [c_void_p, c_void_p]),
    "vuser_dev_set_promiscuous": (c_int, [c_void_p, c_int]),
    "vuser_dev_set_allmulticast": (c_int, [c_void_p, c_int]),
    "vuser_dev_set_addresses": (c_int, [c_void_p, c_void_p, c_uint16]),
    "vuser_dev_vlan_filter": (c_int, [c_void_p, c_uint16, c_int]),
    "vuser_dev_announced": (c_int, [c_void_p]),
    "vuser_mbuf_alloc": (c_void_p, [c_void_p]),
    "vuser_mbuf_alloc_bulk": (c_int, [c_void_p, c_void_p, c_uint16]),
    "vuser_mbuf_free": (None, [c_void_p]),
    "vuser_mbuf_free_bulk": (None, [c_void_p, c_uint16]),
    "vuser_mbuf_clone": (c_void_p, [c_void_p, c_void_p]),
    "vuser_mbuf_data": (c_void_p, [c_void_p]),
    "vuser_mbuf_append": (c_void_p, [c_void_p, c_uint16]),
    "vuser_mbuf_prepend": (c_void_p, [c_void_p, c_uint16]),
    "vuser_mbuf_adj": (c_int, [c_void_p, c_uint16]),
    "vuser_mbuf_chain": (c_int, [c_void_p, c_void_p]),
    "vuser_mbuf_set_tx_offload": (c_int, [c_void_p, c_uint16, c_uint16, c_uint16, c_uint16]),
    "vuser_pool_create": (c_int, [c_void_p, c_void_p]),
    "vuser_pool_free": (None, [c_void_p]),
    "vuser_pool_available": (c_uint32, [c_void_p]),
    "vuser_rx_queue_setup": (c_int, [c_void_p, c_uint16, c_uint16, c_void_p]),
    "vuser_tx_queue_setup": (c_int, [c_void_p, c_uint16, c_uint16, c_void_p]),
    "vuser_rx_queue_setup_source": (c_int, [c_void_p, c_uint16, c_uint16, c_void_p]),
    "vuser_tx_queue_setup_source": (c_int, [c_void_p, c_uint16, c_uint16, c_void_p]),
    "vuser_rx_queue": (c_void_p, [c_void_p, c_uint16]),
    "vuser_tx_queue": (c_void_p, [c_void_p, c_uint16]),
    "vuser_rx_burst": (c_uint16, [c_void_p, c_void_p, c_uint16]),
    "vuser_tx_burst": (c_uint16, [c_void_p, c_void_p, c_uint16]),
    "vuser_tx_prepare": (c_uint16, [c_void_p, c_void_p, c_uint16]),
    "vuser_tx_done_cleanup": (c_uint16, [c_void_p, c_uint16]),
    "vuser_queue_status": (c_int, [c_void_p]),
    "vuser_queue_fd": (c_int, [c_void_p]),
    "vuser_queue_call": (c_int, [c_void_p, c_int]),
    "vuser_queue_wait": (c_int, [c_void_p, c_uint]),
    "vuser_queue_count": (c_int, [c_void_p]),
    "vuser_queue_descriptor_status": (c_int, [c_void_p, c_uint16]),
    "vuser_queue_monitor": (c_int, [c_void_p, c_void_p]),
    "vuser_queue_get_stats": (c_int, [c_void_p, c_void_p]),
    "vuser_queue_reset_stats": (c_int, [c_void_p]),
    "vuser_dev_set_rss": (c_int, [c_void_p, c_void_p]),
    "vuser_dev_rss_limits": (c_int, [c_void_p, c_void_p]),
    "vuser_capture_start": (c_int, [c_void_p, c_void_p, c_void_p]),
    "vuser_capture_get_stats": (c_int, [c_void_p, c_void_p]),
    "vuser_capture_stop": (c_int, [c_void_p]),
    "vuser_rx_burst_copy": (c_uint16, [c_void_p, c_void_p, c_size_t, c_void_p, c_void_p, c_uint16]),
    "vuser_tx_burst_copy": (c_uint16, [c_void_p, c_void_p, c_size_t, c_void_p, c_void_p, c_uint16]),
    "vuser_rx_peek": (c_uint16, [c_void_p, c_void_p, c_uint16]),
    "vuser_rx_release": (None, [c_void_p, c_uint16]),
    "vuser_loopback_start": (c_int, [c_char_p, c_void_p]),
    "vuser_loopback_stop": (None, [c_void_p]),
    "vuser_loopback_get_stats": (c_int, [c_void_p, c_void_p]),
}

/* Calls of the library that are on their way; goes when they are there. */
#include "vuser.h"
#include <errno.h>
int vuser_dev_set_offloads(struct vuser_dev *dev, uint64_t offloads){return 0;}
int vuser_dev_set_queue_pairs(struct vuser_dev *dev, uint16_t pairs){return 0;}
int vuser_rx_queue_start(struct vuser_dev *dev, uint16_t pair){return 0;}
int vuser_rx_queue_stop(struct vuser_dev *dev, uint16_t pair){return 0;}
int vuser_tx_queue_start(struct vuser_dev *dev, uint16_t pair){return 0;}
int vuser_tx_queue_stop(struct vuser_dev *dev, uint16_t pair){return 0;}
int vuser_dev_set_link(struct vuser_dev *dev, int up){return 0;}
int vuser_dev_link(const struct vuser_dev *dev){struct vuser_dev_info i={.size=sizeof i};vuser_dev_get_info(dev,&i);return i.link_up;}
int vuser_dev_fd(const struct vuser_dev *dev){return 0;}
int vuser_mem_contains(const struct vuser_dev *dev, const void *addr, size_t len){return 1;}
int vuser_queue_count(struct vuser_queue *queue){return 0;}
int vuser_queue_descriptor_status(struct vuser_queue *queue, uint16_t offset){return 0;}
int vuser_queue_monitor(struct vuser_queue *queue, struct vuser_monitor *monitor){return -ENOTSUP;}

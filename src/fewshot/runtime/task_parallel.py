"""Several processes without a wrapper around the model."""

import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy


class TaskParallel(DDPStrategy):
    """Processes share each meta-batch; the model adds the meta-gradients up itself (`average_over_tasks`).

    DistributedDataParallel hooks into backward passes and does not support the double backward of an inner loop
    (pytorch #47562, #63812), so the network stays as it is.
    """

    def configure_ddp(self) -> None:
        for tensor in self.lightning_module.state_dict().values() if self.lightning_module is not None else ():
            dist.broadcast(tensor, src=0)

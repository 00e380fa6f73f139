"""What we rely on of verl, Ray, hydra, torch and vLLM: the price of their next version, as a list.

A private method that we override or call, a public one whose parameters we pass, a key that both sides write, a
sentence that we recognise. Where one of them changed, the line that fails says where to look.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

from fpa_verl.integration.command.checks.machine import HEAD_SIZES

TRAINER = "verl.trainer.ppo.v1.trainer_base:PPOTrainer"
BUFFER = "verl.trainer.ppo.v1.replay_buffer:ReplayBuffer"
WORKERS = "verl.workers.engine_workers"
ENGINE = "verl.workers.engine.base:BaseEngine"
SERVER = "verl.workers.rollout.vllm_rollout.vllm_async_server"
FSDP = "verl.workers.engine.fsdp.transformer_impl"

# (where, its parameters), who needs it.
CALLABLES = {
    # trainers/: overridden
    (f"{TRAINER}.__init__", "self, config"): "trainers",
    (f"{TRAINER}.fit", "self, agent_loop_manager"): "trainers/base.py",
    (f"{TRAINER}._setup", "self"): "trainers/sampling_only.py",
    (f"{TRAINER}._init_resource_pool_mgr", "self"): "trainers/base.py",
    (f"{TRAINER}._balance_batch", "self, batch, metrics, logging_prefix, keep_minibatch"): "trainers/offline_loop.py",
    (f"{TRAINER}._compute_old_log_prob", "self, batch, metrics"): "trainers/metered.py, offline_loop.py",
    (f"{TRAINER}._compute_ref_log_prob", "self, batch, metrics"): "trainers/metered.py",
    (f"{TRAINER}._compute_advantage", "self, batch, metrics"): "trainers/scorer_failures.py",
    (f"{TRAINER}._compute_metrics", "self, batch, metrics, timing_raw, global_steps, epoch"): "trainers/metered.py",
    (f"{TRAINER}._update_actor", "self, batch, metrics"): "trainers/metered.py, offline.py",
    (f"{TRAINER}._save_checkpoint", "self"): "trainers/metered.py, best_model.py",
    (f"{TRAINER}._init_dataloader", "self"): "trainers/base.py",
    (f"{TRAINER}._validate", "self"): "trainers/validating.py",
    (f"{TRAINER}.prepare_step", "self"): "trainers/metered_sync.py",
    (
        f"{BUFFER}.__init__",
        "self, trainer_mode, trainer_config, max_off_policy_threshold, max_off_policy_strategy, sampler_kwargs, "
        "poll_interval, refill_fn, filter_groups_metric, train_batch_size, gen_batch_size, max_inflight_gen_batches, "
        "sync_refill_failed_groups",
    ): "servers/replay.py",
    ("verl.utils.dataset.rl_dataset:RLHFDataset.__getitem__", "self, item"): "trainers/static_rollouts.py",
    ("verl.utils.dataset.rl_dataset:RLHFDataset.__len__", "self"): "trainers/static_rollouts.py",
    (f"{BUFFER}._wait_for_next_poll", "self, partition_id, last_debug_time"): "servers/replay.py",
    ("verl.experimental.agent_loop:AgentLoopManager._init_agent_loop_workers", "self"): "trainers/static_rollouts.py",
    # trainers/: hooks of verl's loop, which the ledger, the best model and the watch stand on
    **{
        (f"{TRAINER}.{hook}", "self"): "trainers"
        for hook in (
            *("on_train_begin", "on_train_end", "on_step_end", "on_sample_begin", "on_sample_end"),
            *("on_validate_begin", "on_validate_end"),
        )
    },
    # trainers/: called
    (f"{TRAINER}._init_tokenizer", "self"): "trainers/sampling_only.py",
    (f"{TRAINER}._maybe_log_val_generations", "self, inputs, outputs, scores"): "trainers/validating.py",
    (f"{TRAINER}.get_reward_handles", "self"): "trainers/base.py",
    ("verl.workers.rollout.llm_server:LLMServerManager.create", "cls, args, kwargs"): "trainers/sampling_only.py",
    ("verl.workers.rollout.llm_server:LLMServerManager.get_addresses", "self"): "trainers/base.py",
    ("verl.experimental.reward_loop:RewardLoopManager.__init__", "self, config, rm_resource_pool"): (
        "trainers/sampling_only.py"
    ),
    ("verl.checkpoint_engine.base:CheckpointEngineManager.update_weights", "self, global_steps"): (
        "trainers/offline_loop.py"
    ),
    ("verl.checkpoint_engine.base:CheckpointEngineManager.sleep_replicas", "self"): "trainers/offline_loop.py",
    ("verl.utils.seqlen_balancing:calculate_workload", "seqlen_list"): "trainers/balancing.py",
    ("verl.utils.seqlen_balancing:get_seqlen_balanced_partitions", "seqlen_list, k_partitions, equal_size"): (
        "trainers/balancing.py"
    ),
    # servers/
    (f"{BUFFER}.sample", "self, global_steps, partition_id, batch_size"): "servers/agent_loops.py",
    ("verl.trainer.ppo.v1:AgentLoopManagerTQ.generate_sequences", "self, prompts"): "servers/agent_loops.py",
    ("verl.experimental.agent_loop.agent_loop:register", "agent_name"): "servers/single_turn.py",
    ("verl.experimental.agent_loop:SingleTurnAgentLoop.run", "self, sampling_params, priority, kwargs"): (
        "servers/single_turn.py"
    ),
    # servers/
    (
        "verl.experimental.reward_loop.reward_manager.naive:NaiveRewardManager.__init__",
        "self, config, tokenizer, compute_score, reward_router_address, reward_model_tokenizer",
    ): "servers/reward_manager.py",
    (
        "verl.experimental.reward_loop.reward_manager.naive:NaiveRewardManager.run_single",
        "self, data",
    ): "servers/reward_manager.py",
    # servers/: asked without agent loops
    (f"{SERVER}:vLLMReplica.__init__",
     "self, replica_rank, config, model_config, gpus_per_node, is_reward_model, is_teacher_model, name_suffix"): (
        "servers/vllm_server.py"
    ),
    (
        f"{SERVER}:vLLMHttpServer.generate",
        "self, prompt_ids, sampling_params, request_id, image_data, video_data, audio_data, mm_processor_kwargs, "
        "priority, kv_transfer_params",
    ): "servers/vllm_server.py",
    (f"{SERVER}:vLLMHttpServer.collective_rpc", "self, method, timeout, args, kwargs"): "servers/weights.py",
    (f"{SERVER}:vLLMHttpServer.clear_kv_cache", "self"): "servers/weights.py",
    ("vllm.v1.worker.gpu_worker:Worker.reload_weights", "self, args, kwargs"): "servers/weights.py",
    (
        "vllm.v1.worker.gpu_model_runner:GPUModelRunner.reload_weights",
        "self, weights_iterator, weights_path, is_checkpoint_format",
    ): "servers/weights.py",
    ("verl.workers.rollout.replica:RolloutReplicaRegistry.register", "name, loader"): "plugin.py",
    ("verl.workers.rollout.llm_server:LLMServerManager.get_replicas", "self"): "trainers/base.py",
    ("verl.experimental.reward_loop.reward_loop:RewardLoopWorker.compute_score", "self, data"): "servers/direct.py",
    (
        "verl.utils.tokenizer.continuous_token_wiring:create_continuous_token_builder",
        "tokenizer, model_family, hf_model_type, chat_template_kwargs, mm_processor_kwargs, processor, builder_kwargs",
    ): "servers/prompts.py",
    (
        "verl.utils.tokenizer.continuous_token:ContinuousTokenBuilder.build_initial_tokens",
        "self, messages, tools, images, videos, audios, mm_inputs_out",
    ): "servers/prompts.py",
    # workers/
    (f"{WORKERS}:ActorRolloutRefWorker.init_model", "self"): "workers/actor.py, export.py",
    (f"{WORKERS}:ActorRolloutRefWorker.update_actor", "self, data"): "workers/actor.py",
    (f"{WORKERS}:TrainingWorker.set_loss_fn", "self, loss_fn"): "workers/actor.py",
    (f"{WORKERS}:TrainingWorker.infer_batch", "self, data"): "workers/actor.py",
    # workers/: a model type of ours, and what an engine builds and gives away of the model
    ("verl.workers.engine.base:EngineRegistry.register", "model_type, backend, device, vendor"): (
        "workers/value_head.py"
    ),
    (f"{FSDP}:FSDPEngine._build_module", "self"): "workers/value_head.py, memory/engine.py",
    (f"{FSDP}:FSDPEngine._build_optimizer", "self, module"): "workers/value_head.py",
    ("verl.workers.config.optimizer:build_optimizer", "parameters, config"): "workers/value_head.py",
    (f"{FSDP}:FSDPEngine.get_per_tensor_param", "self, layered_summon, base_sync_done, kwargs"): (
        "workers/value_head.py"
    ),
    (f"{FSDP}:FSDPEngine.get_per_tensor_param_shard", "self, kwargs"): "workers/value_head.py",
    (f"{FSDP}:FSDPEngineWithLMHead.forward_step", "self, micro_batch, loss_function, forward_only"): (
        "workers/reference.py"
    ),
    (f"{ENGINE}.eval_mode", "self, kwargs"): "workers/reference.py",
    (f"{ENGINE}.get_per_tensor_param", "self"): "workers/export.py",
    (f"{ENGINE}.disable_adapter", "self"): "workers/adapter.py",
    (f"{ENGINE}.to", "self, device, model, optimizer, grad"): "workers/adapter.py",
    ("verl.utils.fsdp_utils:normalize_peft_param_name", "params"): "workers/adapter.py",
    ("verl.utils.model:convert_weight_keys", "state_dict, model"): "workers/adapter.py",
    ("verl.utils.device:get_device_id", ""): "workers/adapter.py",
    ("verl.utils.device:get_device_name", ""): "workers/adapter.py",
    (f"{ENGINE}.get_data_parallel_rank", "self"): "workers/actor.py",
    (f"{ENGINE}.get_data_parallel_group", "self"): "workers/actor.py",
    (f"{ENGINE}.is_mp_src_rank_with_outputs", "self"): "workers/actor.py",
    ("verl.workers.utils.padding:no_padding_2_padding", "tensor, data"): "workers/loss.py",
    ("verl.utils.ulysses:get_ulysses_sequence_parallel_rank", "group"): "workers/reference.py",
    ("verl.single_controller.base.decorator:make_nd_compute_dataproto_dispatch_fn", "mesh_name"): "workers/actor.py",
    # command/, config/, plugin
    ("verl.trainer.main_ppo:run_ppo", "config, task_runner_class"): "command/launch.py",
    ("verl.utils.config:validate_config", "config, use_reference_policy, use_critic"): "command/launch.py",
    ("verl.utils.device:auto_set_device", "config"): "command/launch.py",
    ("verl.trainer.ppo.utils:need_critic", "config"): "command/launch.py",
    ("verl.trainer.ppo.utils:need_reference_policy", "config"): "command/launch.py",
    ("verl.utils.import_utils:load_extern_object", "module_path, object_name"): "command/checks/engine.py",
    ("verl.plugin.platform.platform_manager:get_platform", ""): "command/launch.py",
    ("verl.plugin.platform.platform_manager:set_platform", "platform"): "command/launch.py",
    ("hydra.experimental.callback:Callback.on_run_start", "self, config, kwargs"): "command/verls_main.py",
    ("hydra.experimental.callback:Callback.on_job_end", "self, config, job_return, kwargs"): "command/verls_main.py",
    (
        "hydra.plugins.search_path_plugin:SearchPathPlugin.manipulate_search_path",
        "self, search_path",
    ): "hydra_search_path.py",
    ("hydra.experimental.callback:Callback.on_multirun_start", "self, config, kwargs"): "command/verls_main.py",
    (
        "hydra._internal.core_plugins.basic_launcher:BasicLauncher.setup",
        "self, hydra_context, task_function, config",
    ): "hydra_search_path.py",
    (
        "verl.utils.dataset.rl_dataset:RLHFDataset.__init__",
        "self, data_files, tokenizer, config, processor, max_samples",
    ): "trainers/static_rollouts.py",
    ("verl.trainer.ppo.v1.trainer_base:register_trainer", "name"): "trainers",
    ("verl.trainer.ppo.core_algos:register_policy_loss", "name"): "policy_losses.py",
    ("verl.trainer.ppo.core_algos:register_adv_est", "name_or_enum"): "policy_losses.py",
    ("verl.trainer.ppo.core_algos:get_policy_loss_fn", "name"): "workers/loss.py",
    # cpu/
    ("verl.utils.distributed:initialize_global_process_group_ray", "timeout_second, backend"): "cpu/patches.py",
    ("vllm.model_executor.layers.utils:dispatch_cpu_unquantized_gemm", "layer, remove_weight"): "cpu/patches.py",
    ("vllm.v1.sample.ops.topk_topp_sampler:TopKTopPSampler.forward_cpu", "self, logits, generators, k, p"): (
        "cpu/patches.py"
    ),
    (
        "vllm.v1.worker.gpu_model_runner:GPUModelRunner._bookkeeping_sync",
        "self, scheduler_output, sampler_output, logits, hidden_states, num_scheduled_tokens",
    ): "cpu/patches.py",
}  # fmt: skip

# Module, a piece of its source, who needs it.
PIECES = [
    # What verl calls a trainer, and what it sets on one.
    ("verl.trainer.ppo.v1.trainer_base", "self.trainer_mode = self.config.trainer.v1.trainer_mode", "trainers/base.py"),
    ("verl.trainer.ppo.v1.trainer_base", 'self.trainer_mode == "sync"', "trainers/base.py"),
    ("verl.trainer.ppo.v1.trainer_base", 'getattr(self, "_enable_hybrid_replicas", True)', "trainers/base.py"),
    ("verl.trainer.ppo.v1.trainer_base", "self.role_worker_mapping[role] = ray.remote(ActorRolloutRefWorker)",
     "trainers/base.py"),
    ("verl.trainer.ppo.v1.trainer_base", "self.global_steps <= self.total_training_steps", "trainers/best_model.py"),
    ("verl.trainer.ppo.v1.trainer_base", "sampler_cls = load_extern_type(custom_sampler.path, custom_sampler.name)",
     "servers/replay.py"),
    ("verl.trainer.ppo.v1.trainer_base", 'f"global_step_{self.global_steps}"', "safety/checkpoints.py"),
    ("verl.trainer.ppo.v1.trainer_base", 'os.path.join(global_step_folder, "data.pt")', "safety/checkpoints.py"),
    # Parts of a trainer that ours read or set.
    ("verl.trainer.ppo.v1.trainer_base", "self.actor_rollout_wg", "trainers/base.py, best_model.py"),
    ("verl.trainer.ppo.v1.trainer_base", "self.checkpoint_manager", "trainers/offline_loop.py"),
    ("verl.trainer.ppo.v1.trainer_base", "self.llm_server_manager", "trainers/sampling_only.py"),
    ("verl.trainer.ppo.v1.trainer_base", "self.reward_loop_manager", "trainers/sampling_only.py"),
    ("verl.trainer.ppo.v1.trainer_base", "self.teacher_model_manager", "trainers/sampling_only.py"),
    ("verl.trainer.ppo.v1.trainer_base", "self.agent_loop_manager", "trainers/validating.py"),
    ("verl.trainer.ppo.v1.trainer_base", 'marked_timer("update_actor", timing_raw', "trainers/offline_loop.py"),
    ("verl.trainer.ppo.v1.trainer_base", 'marked_timer("step", self.timing_raw', "trainers/offline_loop.py"),
    ("verl.trainer.ppo.v1.trainer_base", 'marked_timer("gen", timing_raw', "trainers/metered_sync.py"),
    ("verl.trainer.ppo.v1.trainer_base", "self.agent_loop_manager.generate_sequences(batch)", "trainers/loops.py"),
    ("verl.trainer.ppo.v1.trainer_base", "if self.trainer_mode != \"sync\":", "trainers/loops.py"),
    ("verl.trainer.ppo.v1.agent_loop_tq", 'prompt.pop("__do_sample__"', "trainers/loops.py"),
    ("verl.utils.dataset.rl_dataset", "if not self.serialize_dataset", "trainers/static_rollouts.py"),
    # Where the reference's weights come from.
    (WORKERS, "self.ref = self.ref_worker_cls(config=ref_training_config)", "workers/actor.py"),
    (FSDP, "pretrained_model_name_or_path=self.model_config.local_path", "workers/actor.py"),
    # How an engine of ours is chosen, and what it may not call the model that it builds.
    (WORKERS, "self.actor = self.actor_worker_cls(config=actor_training_config)", "workers/value_head.py"),
    (WORKERS, "model_type=self.config.model_type,", "workers/value_head.py"),
    (FSDP, 'if self.model_config.model_type == "language_model":', "workers/value_head.py"),
    # vLLM's, of which weight files of a folder are the model's.
    ("vllm.model_executor.model_loader.weight_utils", "[f for f in hf_weights_files if f in weight_files_in_index]",
     "workers/export.py"),
    # Metrics that reports read, of logs of verl's own as well.
    ("verl.trainer.ppo.metric_utils", 'f"timing_s/{name}"', "runs/verl_metrics.py"),
    ("verl.trainer.ppo.metric_utils", '"perf/total_num_tokens"', "runs/metrics.py"),
    ("verl.trainer.ppo.metric_utils", 'f"mean@{n_resps}"', "runs/verl_metrics.py"),
    ("verl.trainer.ppo.v1.trainer_base", '"val-core"', "runs/verl_metrics.py"),
    (WORKERS, '"perf/max_memory_allocated_gb"', "runs/metrics.py"),
    # Keys and tags in TransferQueue, and entries of a prompt.
    ("verl.trainer.ppo.v1.trainer_base", 'tag.get("is_padding", False)', "trainers/scorer_failures.py"),
    ("verl.trainer.ppo.v1.trainer_base", 'tag["min_global_steps"]', "servers/transfer.py"),
    ("verl.trainer.ppo.v1.trainer_base", 'data.pop("num_turns")', "servers/transfer.py"),
    ("verl.trainer.ppo.v1.trainer_base", 'data.batch["rm_scores"]', "servers/transfer.py"),
    ("verl.experimental.agent_loop.agent_loop", 'output["rollout_log_probs"]', "servers/agent_loops.py"),
    ("verl.experimental.agent_loop.agent_loop", 'output["rm_scores"]', "servers/agent_loops.py"),
    ("verl.experimental.agent_loop.agent_loop", "def as_dict(self) -> dict[str, Any]", "servers/transfer.py"),
    ("verl.workers.rollout.replica", "stop_reason: Optional[str]", "servers/client.py"),
    ("verl.workers.rollout.llm_server", '("aborted", "abort")', "servers/client.py"),
    ("verl.trainer.ppo.v1.agent_loop_tq", 'prompt.pop("__rollout_n__"', "servers/agent_loops.py"),
    ("verl.trainer.ppo.v1.agent_loop_tq", 'if "agent_name" not in batch', "servers/agent_loops.py"),
    ("verl.trainer.ppo.v1.agent_loop_tq", 'f"{uid}_{session_id}_{i}"', "servers/agent_loops.py"),
    ("verl.trainer.ppo.v1.agent_loop_tq", 'partition_id="train" if not validate else "val"', "servers/transfer.py"),
    ("verl.trainer.ppo.v1.agent_loop_tq", "session_id=i", "servers/single_turn.py"),
    ("verl.trainer.ppo.v1.agent_loop_tq", '"seq_len": prompt_len + response_len', "servers/transfer.py"),
    ("verl.trainer.ppo.v1.replay_buffer", 'tag.get("is_prompt", False)', "servers/agent_loops.py"),
    ("verl.trainer.ppo.v1.replay_buffer", "partition = self.partitions[partition_id]", "servers/replay.py"),
    # How Ray hands on what a worker prints.
    ("ray._private.worker", 'res = "pid="', "command/terminal.py"),
    ("verl.experimental.agent_loop.agent_loop", 'final_output.extra_fields["reward_extra_info"]',
     "servers/agent_loops.py"),
    ("verl.workers.rollout.vllm_rollout.vllm_async_server", 'max_tokens = sampling_params.pop("max_tokens")',
     "servers/client.py"),
    # What an agent loop does for a single turn, and is done without one.
    ("verl.trainer.ppo.v1.agent_loop_tq", 'sampling_params["top_p"] = config.val_kwargs.top_p', "servers/direct.py"),
    ("verl.trainer.ppo.v1.agent_loop_tq", "repetition_penalty=1.0,\n            logprobs=config.calculate_log_probs",
     "servers/direct.py"),
    ("verl.experimental.agent_loop.agent_loop", "return prompt_ids[-prompt_length:]", "servers/prompts.py"),
    ("verl.experimental.agent_loop.agent_loop", '"tool_extra_fields": np.array([o.extra_fields', "servers/direct.py"),
    ("verl.experimental.agent_loop.single_turn_agent_loop", '{"turn_scores": [], "tool_rewards": []}',
     "servers/direct.py"),
    ("verl.experimental.reward_loop.reward_manager.naive", 'data_item.batch["attention_mask"][-response_length:].sum()',
     "servers/reward_manager.py"),
    (SERVER, "self.server_class = ray.remote(vLLMHttpServer)", "servers/vllm_server.py"),
    (SERVER, 'sampling_params["logprobs"] = 0 if sampling_params.pop("logprobs", False) else None',
     "servers/direct.py"),
    (SERVER, "SamplingParams(max_tokens=max_tokens, **sampling_params)", "servers/vllm_server.py"),
    # What the engine does with the entries of a batch.
    (FSDP, "distillation_use_topk", "workers/loss.py"),
    (FSDP, "student_logits=", "workers/loss.py"),
    (FSDP, "distillation_only", "workers/reference.py"),
    (FSDP, "sp_size=", "workers/reference.py"),
    (FSDP, "batch_num_tokens=", "workers/loss.py"),
    (FSDP, "dp_size=", "workers/loss.py"),
    ("verl.workers.engine.utils", "force_group_size", "workers/actor.py"),
    (WORKERS, '"ref" in self.role', "workers/actor.py"),
    (WORKERS, 'no_lora_adapter = tu.pop(data, key="no_lora_adapter", default=False)', "workers/actor.py"),
    (FSDP, "self._is_lora = self.model_config.lora_rank > 0", "config/settings.py"),
    (FSDP, 'peft_model.peft_config.get("default", None)', "workers/adapter.py"),
    # What the driver asks for an adapter's sake.
    # What memory/engine.py puts something else in the place of.
    ("verl.workers.engine.fsdp.transformer_impl", "fsdp2_load_full_state_dict(", "memory/engine.py"),
    ("verl.workers.engine.fsdp.transformer_impl", "def _build_module(self)", "memory/engine.py"),
    (FSDP, "entropy_rmpad = self.compute_entropy_from_logits(logits_rmpad)", "memory/engine.py"),
    ("verl.trainer.ppo.v1.trainer_base", '"calculate_entropy": True', "memory/step.py"),
    ("verl.utils.torch_functional", "FLAH_ATTN_CROSS_ENTROPY_LOSS_AVAILABLE and", "memory/engine.py"),
    ("verl.utils.torch_functional", "cross_entropy_loss(logits, labels, inplace_backward", "memory/engine.py"),
    ("verl.utils.torch_functional", "logprobs_from_logits_v2(logits, labels)", "kernels/log_probs.py"),
    ("verl.third_party.vllm", 'package_name = "vllm"', "cpu/patches.py"),
    (WORKERS, "self.loss_fn", "workers/actor.py"),
    # What a callback of hydra's may change, and what is copied after it.
    ("hydra._internal.hydra", "callbacks.on_run_start(config=cfg, config_name=config_name)", "command/verls_main.py"),
    ("hydra.core.utils", "task_cfg = copy.deepcopy(config)", "command/verls_main.py"),
    ("hydra._internal.hydra", "instantiate_sweeper(\n            config=cfg", "command/verls_main.py"),
    ("verl.trainer.main_ppo", '@hydra.main(config_path="config", config_name="ppo_trainer"', "command/own_file.py"),
    # Sentences that are recognised.
    ("verl.trainer.ppo.v1.agent_loop_tq", 'f"Error in _run_prompt for uid={uid}"', "safety/said_once.py"),
    ("verl.trainer.ppo.v1.replay_buffer", "no materializable trajectories", "safety/failures.py"),
    ("verl.utils.tracking", "VERL_FILE_LOGGER_PATH", "trainers/metered.py"),
    ("ray._private.worker", "_node_ip_address", "command/launch.py"),
    ("ray.actor", "__ray_ready__", "safety/watchdog.py"),
]  # fmt: skip


def found(where: str):
    module, _, path = where.partition(":")
    one = importlib.import_module(module)
    for name in path.split("."):
        one = getattr(one, name)
    return inspect.unwrap(one)


@pytest.mark.parametrize(("where", "parameters"), CALLABLES, ids=lambda value: value if ":" in value else "")
def test_callables_have_the_parameters_that_we_count_on(where, parameters):
    assert ", ".join(inspect.signature(found(where)).parameters) == parameters, (
        f"needed by {CALLABLES[where, parameters]}"
    )


@pytest.mark.parametrize(("module", "piece", "needed_by"), PIECES)
def test_pieces_of_source_are_there(module, piece, needed_by):
    spec = importlib.util.find_spec(module)
    assert piece in Path(spec.origin).read_text(), f"{module} has no `{piece}` any more: {needed_by}"


def test_what_torch_says_of_a_file_that_it_cannot_write(tmp_path):
    import torch

    from fpa_verl.integration.safety.failures import first_cause

    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full")
    with pytest.raises(RuntimeError) as caught:
        torch.save(torch.zeros(1_000_000), str(full))
    assert "a checkpoint could not be written" in str(first_cause(caught.value))


def test_ray_knows_the_variable_that_bounds_its_tasks():
    import ray

    from fpa_verl.integration.command.launch import TASKS_KEPT

    (variable,) = TASKS_KEPT
    server = Path(ray.__file__).parent / "core/src/ray/gcs/gcs_server"
    assert variable.removeprefix("RAY_").encode() in server.read_bytes()


def overridden():
    """Our class and verl's method, of every method that a class of ours defines over one of verl's."""
    from fpa_verl.integration import servers, trainers, workers

    for package in (servers, trainers, workers):
        for file in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{file.name}")
            for cls in vars(module).values():
                if inspect.isclass(cls) and cls.__module__ == module.__name__:
                    theirs = [base for base in cls.__mro__ if base.__module__.startswith("verl")]
                    # Not what `dataclass` writes.
                    written = [one for one in vars(cls).items() if inspect.isfunction(one[1])]
                    own = [name for name, value in written if value.__code__.co_filename == module.__file__]
                    for name in own:
                        if bases := [base for base in theirs if name in vars(base)]:
                            yield cls, [f"{base.__module__}:{base.__qualname__}.{name}" for base in bases]


def test_every_method_that_is_overridden_is_in_the_list():
    listed = {f"{(one := found(where)).__module__}:{one.__qualname__}" for where, _ in CALLABLES}
    seen = list(overridden())
    assert any("_validate" in name for _, names in seen for name in names)
    missing = {f"{cls.__name__}: {names[0]}" for cls, names in seen if not listed & set(names)}
    assert missing == set()


def test_vllm_has_attention_heads_of_these_sizes_on_a_cpu():
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    assert tuple(CPUAttentionBackend.get_supported_head_sizes()) == HEAD_SIZES

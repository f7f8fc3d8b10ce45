# The tests that ThreadSanitizer is given: all that run on several threads, but
# the client's and those that compute for long what others compute, too, the
# attacks and the metrics: a hostile header of 100 MB, and a trainer's OpenMP,
# take ThreadSanitizer many minutes.
# OpenMP's threads in the trainer are left out: libgomp is not built for it.
set(POT_THREADED_TESTS
  # engine
  base_thread_pool_test
  checkpoint_version_store_test
  gpt2_evaluation_test
  gpt2_forward_test
  gpt2_quantize_model_test
  inference_engine_test
  kernels_float_linear_test
  kernels_huge_page_buffer_test
  kernels_pot_linear_test
  quant_pot_quantizer_test
  # server
  event_buffer_test
  inference_service_test
  model_service_test
  observability_test
  perplexity_rpc_test
  register_checkpoint_test
  security_test
  server_test
  serving_alias_store_test
  serving_chunk_pacer_test
  serving_generation_scheduler_test
  serving_hot_swap_test
  serving_model_repository_test
  serving_prefix_sharing_test
  serving_scheduler_threads_test
  serving_score_scheduling_test
  serving_step_failure_test
  serving_task_queue_test
  trainer_worker_service_test
  training_driver_test
  training_service_test
  worker_pool_test
  # system
  drain_test
  grpcio_client_test
  hot_swap_test)

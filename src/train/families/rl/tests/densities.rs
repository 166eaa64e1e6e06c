//! The densities that the discriminator of airl sees.

use super::*;

#[test]
fn densities_are_of_the_draw_or_of_the_policy_after_its_update() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cartpole.safetensors");
    run(&[]).trainer().demonstrations(3, 1, false).unwrap().write(&file).unwrap();
    let reward = |densities: &str, updates: usize| {
        let airl = "discriminator = { kind = \"airl\" }, form = \"g\", replay = { paths = 9, added = 1.0 }";
        let densities = format!("{airl}, densities = \"{densities}\"");
        imitation(&file.display().to_string(), &densities).replace("updates = 3", &format!("updates = {updates}"))
    };
    // CartPole falls within some 20 steps and then rests up to step 500.
    let changes = |reward: &str| RlTrainer::new(parsed(&[reward, "termination=fixed_horizon", "steps=300", "copies=2"]), &Device::cpu());
    for densities in ["sampled", "current"] {
        let mut trainer = changes(&reward(densities, 1)).unwrap();
        trainer.step(0).unwrap();
        let rollout = Rollout::collect(&mut trainer.envs, &trainer.agent.policy, 300, &mut trainer.rng).unwrap();
        let drawn = rollout.log_probs.to_f64_vec().unwrap();
        // The policy after an update, of which the one that has drawn these steps is one before.
        trainer.step(1).unwrap();
        let Teacher::Imitation(imitation) = &mut trainer.teacher else { panic!("a reward is learned") };
        let seen = imitation.seen(&rollout, &trainer.agent.policy, &mut trainer.rng).unwrap();
        assert!(seen.rows() > rollout.rows(), "{} rows", seen.rows());
        let now = trainer.agent.policy.distribution(&seen.observations).unwrap().log_prob(&seen.actions).unwrap().to_f64_vec().unwrap();
        let rests: Vec<bool> = {
            let (before, after) = (seen.observations.to_f64_vec().unwrap(), seen.next_observations.to_f64_vec().unwrap());
            before.chunks(4).zip(after.chunks(4)).map(|(before, after)| before == after).collect()
        };
        assert_eq!(rests[..rollout.rows()], rollout.resting);
        let (own, replayed) = rests.split_at(rollout.rows());
        assert!([own, replayed].iter().all(|rests| rests.contains(&true) && rests.contains(&false)));
        let given = seen.log_probs.unwrap().to_f64_vec().unwrap();
        for (i, rests) in rests.iter().enumerate() {
            match (rests, densities) {
                (true, _) => assert_eq!(given[i], 0.0),
                (false, "current") => assert_eq!(given[i], now[i]),
                (false, _) if i < rollout.rows() => assert_eq!(given[i], drawn[i]),
                (false, _) => assert_ne!(given[i], 0.0),
            }
        }
        // An update changes nearly every density.
        let changed = given[rollout.rows()..].iter().zip(&now[rollout.rows()..]).zip(replayed).filter(|(_, rests)| !**rests);
        let (count, differ) = changed.fold((0, 0), |(count, differ), ((given, now), _)| (count + 1, differ + usize::from(given != now)));
        assert!(if densities == "current" { differ == 0 } else { 10 * differ > 9 * count }, "{differ} of {count}");
        // With those of the policy after its update, the discriminator is trained after it: the policy does not depend on that.
        let policy = |updates: usize| {
            let mut trainer = changes(&reward(densities, updates)).unwrap();
            trainer.step(0).unwrap();
            trainer.agent.policy.params().state().iter().map(|(_, tensor)| tensor.to_f64_vec().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(policy(1) == policy(4), densities == "current");
    }
    for rest in [VAIL, "discriminator = { kind = \"gail\" }"] {
        let changes = [imitation("x.npz", &format!("{rest}, densities = \"current\""))];
        let refused = family("rl").unwrap().configure("small", SMALL, &changes).unwrap_err().to_string();
        assert!(refused.contains("reward.densities = \"current\"") && refused.contains("only airl and vairl"), "{refused}");
    }
}

// SPDX-License-Identifier: Apache-2.0

// TreeKEM: fresh keys along a member's path to the root, and the path secrets
// that the others need to compute them (RFC 9420 §7.4-7.6).

package mls

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// A treePrivate holds the private keys that a member has of a tree: its leaf's,
// and those of nodes of its direct path. It is a value: a changed one is a new
// one, and the old is wiped by its owner when the epoch is forgotten.
type treePrivate struct {
	redacted
	self LeafIndex
	leaf *hpkePrivateKey
	// path[k] belongs to the parent of self at level k+1, nil when unknown.
	path []*hpkePrivateKey
}

// at returns the private key of a node, nil when it is unknown. A key counts
// only while the tree has its public half at that node.
func (p *treePrivate) at(x nodeIndex) *hpkePrivateKey {
	level := x.level()
	switch {
	case level == 0:
		if x == p.self.node() {
			return p.leaf
		}
	case int(level) <= len(p.path) && x == parentAt(p.self, level):
		return p.path[level-1]
	}
	return nil
}

// matching returns the keys that still stand in t: a proposal may have blanked
// nodes of the path, or truncated the tree.
func (p *treePrivate) matching(t *ratchetTree) *treePrivate {
	q := &treePrivate{self: p.self, leaf: p.leaf, path: make([]*hpkePrivateKey, t.levels())}
	for k := range q.path {
		if k >= len(p.path) || p.path[k] == nil {
			continue
		}
		key := t.keyAt(encryptionKeyKind, parentAt(p.self, uint(k+1)))
		if bytes.Equal(key, p.path[k].public()) {
			q.path[k] = p.path[k]
		}
	}
	return q
}

// pathKeys derives the key pair of a node from its path secret, and the path
// secret of the next node up (RFC 9420 §7.4).
func (s *suite) pathKeys(pathSecret []byte) (*hpkePrivateKey, []byte, error) {
	nodeSecret := s.deriveSecret(pathSecret, "node")
	defer wipe(nodeSecret)
	return s.deriveKeyPair(nodeSecret)
}

func (s *suite) nextPathSecret(pathSecret []byte) []byte { return s.deriveSecret(pathSecret, "path") }

// pathSecrets returns the path secrets of n nodes, of which first is the lowest, and
// the commit secret that follows from the last.
func (s *suite) pathSecrets(first []byte, n int) (secrets [][]byte, commitSecret []byte) {
	secrets = make([][]byte, n)
	next := first
	for k := range secrets {
		secrets[k] = next
		next = s.nextPathSecret(next)
	}
	return secrets, next
}

// A newPath is the outcome of making an UpdatePath.
type newPath struct {
	redacted
	path         *UpdatePath
	private      *treePrivate
	commitSecret []byte
	// steps and secrets are the filtered direct path and its path secrets: a
	// Welcome gives each new member that of the lowest node above it.
	steps   []pathStep
	secrets [][]byte
}

// secretFor returns the path secret of the lowest node of the path that is above
// a new leaf (RFC 9420 §12.4.3.1).
func (n *newPath) secretFor(i LeafIndex) []byte {
	for k, step := range n.steps {
		if i.node().isInSubtree(step.at) {
			return n.secrets[k]
		}
	}
	return nil
}

func (n *newPath) wipe() {
	for _, s := range n.secrets {
		wipe(s)
	}
	wipe(n.commitSecret)
}

// makePath gives the member self fresh keys up to the root and changes the edit
// accordingly (RFC 9420 §7.5). The leaf comes as a template: makePath sets its
// encryption key, source and parent hash and signs it for the group. The path is
// not yet encrypted: that takes the GroupContext, which holds the new tree hash.
func (e *treeEdit) makePath(rand io.Reader, self LeafIndex, leaf *LeafNode, key *SignaturePrivateKey, id GroupID) (*newPath, error) {
	s := e.t.s
	priv, pub, err := s.generateHPKEKeyPair(rand)
	if err != nil {
		return nil, fmt.Errorf("mls: making path: %w", err)
	}
	n := &newPath{private: &treePrivate{self: self, leaf: priv, path: make([]*hpkePrivateKey, e.t.levels())}}
	n.steps = e.t.filteredPath(self)
	secret := make([]byte, s.nh)
	if err := readRandom(rand, secret); err != nil {
		return nil, fmt.Errorf("mls: making path: %w", err)
	}
	n.path = &UpdatePath{Nodes: make([]UpdatePathNode, len(n.steps))}
	n.secrets, n.commitSecret = s.pathSecrets(secret, len(n.steps))
	// The chain of secrets is cheap, the key pairs are not.
	if err := inParallel(len(n.steps), func(k int) error {
		priv, pub, err := s.pathKeys(n.secrets[k])
		if err != nil {
			return fmt.Errorf("mls: making path: %w", err)
		}
		n.private.path[n.steps[k].at.level()-1] = priv
		n.path.Nodes[k].EncryptionKey = pub
		return nil
	}); err != nil {
		return nil, err
	}

	leaf.EncryptionKey = pub
	leaf.Source = LeafNodeCommit
	leaf.Lifetime = Lifetime{}
	leaf.ParentHash = e.setPath(self, n.steps, n.path.Nodes)
	if err := leaf.sign(s, key, id, self); err != nil {
		return nil, err
	}
	n.path.LeafNode = leaf
	e.setLeaf(self, leaf)
	return n, nil
}

// setPath blanks the direct path of a leaf, puts the keys of a path into the
// filtered direct path and returns the parent hash for the leaf (RFC 9420 §7.5,
// "merges UpdatePath into the tree"). The copath must not change between the
// computation of steps and this call.
func (e *treeEdit) setPath(self LeafIndex, steps []pathStep, nodes []UpdatePathNode) []byte {
	// The parent hash takes the tree hash of each copath child, which earlier
	// changes of this edit may have left uncomputed.
	var buf []byte
	for _, step := range steps {
		first, _ := step.copathAt.subtree()
		step.copath.computeHash(e.t.s, step.copathAt.level(), LeafIndex(first/2), &buf)
	}
	var leafHash []byte
	e.change(self, func(path []*treeNode) {
		blankPath(path)
		// From the root down: each hash takes in the one above it.
		hash := []byte{}
		for k := len(steps) - 1; k >= 0; k-- {
			step := steps[k]
			p := &parentNode{encryptionKey: nodes[k].EncryptionKey, parentHash: hash, edit: e.id}
			path[step.at.level()].parent = p
			e.addKey(encryptionKeyKind, p.encryptionKey, step.at)
			hash = parentHash(e.t.s, p, step.copath.hash)
		}
		leafHash = hash
	})
	return leafHash
}

// recipients returns the nodes to which the path secret of a step is encrypted:
// the resolution of the copath child without leaves that this edit added.
func (e *treeEdit) recipients(step pathStep) []resolved {
	list := e.t.appendResolution(nil, step.copath, step.copathAt)
	if len(e.added) == 0 {
		return list
	}
	kept := list[:0]
	for _, r := range list {
		if l, isLeaf := r.at.leaf(); !isLeaf || !containsLeaf(e.added, l) {
			kept = append(kept, r)
		}
	}
	return kept
}

// encryptPath fills in the ciphertexts of a path (RFC 9420 §7.6). context is the
// provisional GroupContext. Many recipients are served on all cores.
func (e *treeEdit) encryptPath(rand io.Reader, n *newPath, context []byte) error {
	type job struct {
		to     []byte
		secret []byte
		out    *HPKECiphertext
	}
	var jobs []job
	for k, step := range n.steps {
		to := e.recipients(step)
		out := make([]HPKECiphertext, len(to))
		n.path.Nodes[k].EncryptedPathSecret = out
		for i := range to {
			jobs = append(jobs, job{to[i].key, n.secrets[k], &out[i]})
		}
	}
	c := e.t.s.newLabelContext("UpdatePathNode", context)
	return inParallel(len(jobs), func(i int) error {
		ct, err := c.seal(rand, jobs[i].to, jobs[i].secret)
		if err != nil {
			return fmt.Errorf("mls: encrypting path secret: %w", err)
		}
		*jobs[i].out = ct
		return nil
	})
}

// workersFor is how many goroutines share n pieces of work.
func workersFor(n int) int {
	const worthIt = 2 // pieces for a goroutine: the shortest take tens of microseconds
	return min(runtime.GOMAXPROCS(0), n/worthIt)
}

// inParallel runs n independent pieces of work, each a public-key operation or more,
// on all cores, and returns the first error. No goroutine outlives the call.
func inParallel(n int, work func(int) error) error {
	workers := workersFor(n)
	if workers < 2 {
		for i := range n {
			if err := work(i); err != nil {
				return err
			}
		}
		return nil
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		next  int
		first error
	)
	batch := min(4, 1+n/(8*workers)) // small, so that all end at the same time
	for range workers {
		wg.Go(func() {
			for {
				mu.Lock()
				from := next
				next += batch
				failed := first != nil
				mu.Unlock()
				if failed || from >= n {
					return
				}
				for i := from; i < min(from+batch, n); i++ {
					if err := work(i); err != nil {
						mu.Lock()
						if first == nil {
							first = err
						}
						mu.Unlock()
						return
					}
				}
			}
		})
	}
	wg.Wait()
	return first
}

// applyPath merges a received path into the edit and checks everything of it
// that an outsider can check, but the leaf's validity (RFC 9420 §7.5, §7.9.2,
// §12.4.2). It returns the filtered direct path.
func (e *treeEdit) applyPath(sender LeafIndex, path *UpdatePath) ([]pathStep, error) {
	steps := e.t.filteredPath(sender)
	if len(path.Nodes) != len(steps) {
		return nil, invalid(RulePathLength, "path has %d nodes, the filtered direct path %d", len(path.Nodes), len(steps))
	}
	for k := range path.Nodes {
		if err := e.t.s.checkHPKEPublicKey(path.Nodes[k].EncryptionKey); err != nil {
			return nil, broken(RulePathKeyFormat, err, "path node %d: encryption_key", k)
		}
		// Counting is cheap; it is done before any expensive work.
		if got, want := len(path.Nodes[k].EncryptedPathSecret), len(e.recipients(steps[k])); got != want {
			return nil, invalid(RulePathCiphertexts, "path node %d has %d ciphertexts, its copath resolution %d", k, got, want)
		}
	}
	hash := e.setPath(sender, steps, path.Nodes)
	if !bytes.Equal(hash, path.LeafNode.ParentHash) {
		return nil, invalid(RulePathParentHash, "the parent_hash of the path's leaf does not match the path")
	}
	e.setLeaf(sender, path.LeafNode)
	return steps, nil
}

// openPath decrypts the path secret that is meant for the member p and derives
// the keys above it (RFC 9420 §7.5, "decrypts the path secrets"). steps comes from
// applyPath, context is the provisional GroupContext. The result is checked
// against the public keys of the path.
func (e *treeEdit) openPath(p *treePrivate, steps []pathStep, path *UpdatePath, context []byte) (*treePrivate, []byte, error) {
	s := e.t.s
	for k, step := range steps {
		if !p.self.node().isInSubtree(step.copathAt) {
			continue
		}
		for i, r := range e.recipients(step) {
			key := p.at(r.at)
			if key == nil || !bytes.Equal(key.public(), r.key) {
				continue
			}
			secret, err := s.decryptWithLabel(key, "UpdatePathNode", context, path.Nodes[k].EncryptedPathSecret[i])
			if err != nil {
				return nil, nil, broken(RulePathDecrypt, err, "decrypting path secret %d of path node %d", i, k)
			}
			if len(secret) != s.nh {
				wipe(secret)
				return nil, nil, invalid(RulePathDecrypt, "path secret has %d octets, want %d", len(secret), s.nh)
			}
			next := &treePrivate{self: p.self, leaf: p.leaf, path: make([]*hpkePrivateKey, e.t.levels())}
			copy(next.path, p.path)
			for level := step.at.level(); level <= uint(len(next.path)); level++ {
				next.path[level-1] = nil // the sender blanked it, or sets it below
			}
			commitSecret, err := s.derivePath(next, steps[k:], path.Nodes[k:], secret)
			return next, commitSecret, err
		}
		break
	}
	return nil, nil, invalid(RulePathDecrypt, "no path secret is encrypted to this member")
}

// derivePath derives the keys of steps from the path secret of the first, checks
// them against the public keys and stores them in p. It returns the commit secret
// and wipes the path secret.
func (s *suite) derivePath(p *treePrivate, steps []pathStep, nodes []UpdatePathNode, secret []byte) ([]byte, error) {
	secrets, commitSecret := s.pathSecrets(secret, len(steps))
	err := inParallel(len(steps), func(k int) error {
		priv, pub, err := s.pathKeys(secrets[k])
		if err != nil {
			return broken(RulePathKeys, err, "deriving the keys of node %d", steps[k].at)
		}
		if !bytes.Equal(pub, nodes[k].EncryptionKey) {
			priv.wipe()
			return invalid(RulePathKeys, "the path secret of node %d does not match its encryption_key", steps[k].at)
		}
		p.path[steps[k].at.level()-1] = priv
		return nil
	})
	for _, s := range secrets {
		wipe(s)
	}
	if err != nil {
		wipe(commitSecret)
		return nil, err
	}
	return commitSecret, nil
}

// privateFromWelcome derives the keys that a new member gets from the path
// secret of a Welcome, which belongs to the lowest common ancestor of the member
// and the committer, and checks them against the tree (RFC 9420 §12.4.3.1). A nil
// path secret gives the leaf's key alone.
func (t *ratchetTree) privateFromWelcome(self, committer LeafIndex, leaf *hpkePrivateKey, pathSecret []byte) (*treePrivate, error) {
	p := &treePrivate{self: self, leaf: leaf, path: make([]*hpkePrivateKey, t.levels())}
	if pathSecret == nil {
		return p, nil
	}
	common := commonAncestor(self.node(), committer.node())
	var steps []pathStep
	var nodes []UpdatePathNode
	for _, step := range t.filteredPath(committer) {
		if common.isInSubtree(step.at) {
			if step.node.parent == nil {
				return nil, invalid(RulePathKeys, "the Welcome has a path secret for node %d, which is blank", step.at)
			}
			steps = append(steps, step)
			nodes = append(nodes, UpdatePathNode{EncryptionKey: step.node.parent.encryptionKey})
		}
	}
	commitSecret, err := t.s.derivePath(p, steps, nodes, bytes.Clone(pathSecret))
	wipe(commitSecret)
	return p, err
}

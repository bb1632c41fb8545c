package main

import "github.com/versity/versitygw/auth"

// owner of all buckets, as the stacks before this program wrote it to each. It is not the key: an owner
// that changed with the key would make buckets somebody else's.
const owner = "root"

// oneKey is the gateway's idea of its users: the group's key and nobody else, made or removed by nobody.
type oneKey struct {
	auth.IAMService
	access string
}

func newOneKey(access, secret string) oneKey {
	group := auth.Account{Access: access, Secret: secret, Role: auth.RoleAdmin}
	return oneKey{auth.NewIAMServiceSingle(group), access}
}

// GetUserAccount knows the group's key. Of others the gateway's service of this kind says what clients do
// not understand as a wrong key.
func (key oneKey) GetUserAccount(access string) (auth.Account, error) {
	if access != key.access {
		return auth.Account{}, auth.ErrNoSuchUser
	}
	return key.IAMService.GetUserAccount(access)
}

// BucketOwner is whom every new bucket belongs to.
func (oneKey) BucketOwner() auth.Account {
	return auth.Account{Access: owner, Role: auth.RoleAdmin}
}
